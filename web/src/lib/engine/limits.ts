/** The limits of uploads, as the gateway answers them and before it has. */
import { MAX_JOB_PHOTOS, type UploadLimitsView } from "@/lib/api/upload";
import type { UploadLimits } from "@/stores/uploadTypes";

/** Of every gateway, as docs/photos.md has them; sizes are the operator's. */
export const UNKNOWN_LIMITS: UploadLimits = {
  maxPhotoBytes: Infinity,
  maxJobPhotos: MAX_JOB_PHOTOS,
  contentTypes: new Set([
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/gif",
    "image/heic",
    "image/heif",
    "image/avif",
    "image/tiff",
  ]),
  maxSinglePutBytes: 5 * 1024 * 1024,
  tusAboveBytes: Infinity,
};

export function limitsOf(view: UploadLimitsView): UploadLimits {
  return {
    maxPhotoBytes: view.maxPhotoBytes,
    maxJobPhotos: view.maxJobPhotos,
    contentTypes: new Set(view.contentTypes),
    maxSinglePutBytes: view.maxSinglePutBytes,
    tusAboveBytes: view.tusAboveBytes ?? Infinity,
  };
}
