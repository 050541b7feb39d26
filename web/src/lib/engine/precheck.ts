/** What can be said of a file before anything is sent: its type, its size, whether it is there. */
import type { FileSource, UploadFailure, UploadLimits, UploadStrategy } from "@/stores/uploadTypes";

/** Names of types that mean the same, as docs/photos.md has them. */
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

/** Such as `.jpg`, of types that are taken: systems do not know HEIC and AVIF by their types. */
export function extensionsOf(types: ReadonlySet<string>): readonly string[] {
  const known = Object.entries(BY_EXTENSION).filter(([, type]) => types.has(type));
  return known.map(([extension]) => `.${extension}`);
}

/** For `accept` of file inputs. */
export function acceptOf(types: ReadonlySet<string>): string {
  return [...types, ...extensionsOf(types)].join();
}

/** The type to declare; null if it is not known, or not among those that are taken. */
export function typeOf(
  file: Pick<File, "name" | "type">,
  types: ReadonlySet<string>,
): string | null {
  const declared = file.type.toLowerCase().split(";", 1)[0]?.trim() ?? "";
  const extension = /\.([A-Za-z0-9]+)$/.exec(file.name)?.[1]?.toLowerCase() ?? "";
  const type = UNKNOWN_TYPES.has(declared)
    ? BY_EXTENSION[extension]
    : (ALIASES[declared] ?? declared);
  return type !== undefined && types.has(type) ? type : null;
}

export function refusalOf({ file }: FileSource, limits: UploadLimits): UploadFailure | null {
  if (typeOf(file, limits.contentTypes) === null) return failure("UNSUPPORTED_CONTENT_TYPE");
  if (file.size === 0) return failure("EMPTY_FILE");
  if (file.size > limits.maxPhotoBytes) return failure("BAD_PHOTO_SIZE");
  return null;
}

export function strategyOf(size: number, limits: UploadLimits): UploadStrategy {
  return size > limits.tusAboveBytes ? "tus" : strategyWithoutTus(size, limits);
}

/** How it is sent in place of tus: the gateway decides, and this is how it does. */
export function strategyWithoutTus(size: number, limits: UploadLimits): UploadStrategy {
  return size > limits.maxSinglePutBytes ? "multipart" : "single";
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
