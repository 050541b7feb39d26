/** Items for tests. */
import type { UploadLimitsView } from "@/lib/api/upload";
import type { UploadItem } from "@/stores/uploadTypes";

export function itemOf(id: string, changes: Partial<UploadItem> = {}): UploadItem {
  return {
    id,
    batchId: "batch",
    name: `${id}.jpg`,
    size: 1000,
    type: "image/jpeg",
    rank: 0,
    phase: "waiting",
    strategy: "single",
    bytesSent: 0,
    jobId: null,
    photoId: null,
    attempt: 1,
    failure: null,
    bytesPerSecond: null,
    thumbnailUrl: null,
    ...changes,
  };
}

/** Of a gateway as it is delivered. */
export const LIMITS: UploadLimitsView = {
  maxPhotoBytes: 200 * 1024 * 1024,
  maxJobPhotos: 1000,
  contentTypes: ["image/jpeg"],
  maxSinglePutBytes: 5 * 1024 * 1024,
  tusAboveBytes: null,
};
