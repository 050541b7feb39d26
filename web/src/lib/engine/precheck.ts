/** What can be said of a file before anything is sent: its type, its size, whether it is there. */
import type { FileSource, UploadFailure, UploadStrategy } from "@/stores/uploadTypes";

/** As docs/photos.md has them: types that the gateway takes, and names that mean the same. */
const TYPES: ReadonlySet<string> = new Set([
  "image/jpeg",
  "image/png",
  "image/webp",
  "image/gif",
  "image/heic",
  "image/heif",
  "image/avif",
  "image/tiff",
]);
const ALIASES: Readonly<Record<string, string>> = {
  "image/jpg": "image/jpeg",
  "image/pjpeg": "image/jpeg",
};
/** Browsers know few types: files of the others arrive without one. */
const BY_EXTENSION: Readonly<Record<string, string>> = {
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  jpe: "image/jpeg",
  jfif: "image/jpeg",
  png: "image/png",
  webp: "image/webp",
  gif: "image/gif",
  heic: "image/heic",
  heif: "image/heif",
  avif: "image/avif",
  tif: "image/tiff",
  tiff: "image/tiff",
};
const UNKNOWN_TYPES: ReadonlySet<string> = new Set(["", "application/octet-stream"]);

/** For `accept` of file inputs. */
export const ACCEPTED = [...TYPES, ...Object.keys(BY_EXTENSION).map((each) => `.${each}`)].join();

/** Larger ones are sent in parts: the gateway decides, and this is how it does. */
export const MAX_SINGLE_BYTES = 5 * 1024 * 1024;

/** The type to declare; null if it is not accepted. */
export function typeOf(file: Pick<File, "name" | "type">): string | null {
  const declared = file.type.toLowerCase().split(";", 1)[0]?.trim() ?? "";
  if (UNKNOWN_TYPES.has(declared)) {
    const extension = /\.([A-Za-z0-9]+)$/.exec(file.name)?.[1]?.toLowerCase() ?? "";
    return BY_EXTENSION[extension] ?? null;
  }
  const type = ALIASES[declared] ?? declared;
  return TYPES.has(type) ? type : null;
}

/** @param maxBytes - as far as it is known. */
export function refusalOf({ file }: FileSource, maxBytes: number): UploadFailure | null {
  if (typeOf(file) === null) return failure("UNSUPPORTED_CONTENT_TYPE");
  if (file.size === 0) return failure("EMPTY_FILE");
  if (file.size > maxBytes) return failure("BAD_PHOTO_SIZE");
  return null;
}

export function strategyOf(size: number, tusAboveBytes: number): UploadStrategy {
  if (size > tusAboveBytes) return "tus";
  return size > MAX_SINGLE_BYTES ? "multipart" : "single";
}

/** A name as the gateway wants it, as far as that changes no meaning. */
export function sentName(name: string): string {
  const trimmed = name.normalize("NFC").trim();
  return trimmed === "" ? "photo" : trimmed;
}

/** The limit in the text of `BAD_PHOTO_SIZE`; null if it says none. */
export function limitOf(detail: string | null): number | null {
  const digits = /\b1 to (\d{1,15}) bytes/.exec(detail ?? "")?.[1];
  return digits === undefined ? null : Number(digits);
}

function failure(reason: string): UploadFailure {
  return { reason, detail: null, canRetry: false };
}
