/** What follows from the error of an upload. Pure: a table of reasons (docs/gateway.md). */
import type { UploadFailure } from "@/stores/uploadTypes";
import { ApiError, NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";
import { StoreError } from "@/lib/s3/put";

export type Decision =
  /** Later, by itself. `isNetwork`: as soon as the network is there, however often it fails. */
  | {
      readonly next: "again";
      readonly isNetwork: boolean;
      readonly retryAfterSeconds: number | null;
    }
  /** When somebody is logged in again. */
  | { readonly next: "log-in" }
  /** All bytes are there: only wait. */
  | { readonly next: "arrived" }
  | { readonly next: "completed" }
  | { readonly next: "cancelled" }
  /** Another attempt of the photo, of the gateway. */
  | { readonly next: "retry" }
  /** The same file in another job, by signed URLs. */
  | { readonly next: "without-tus" }
  | { readonly next: "failed"; readonly failure: UploadFailure };

const AGAIN = { next: "again", isNetwork: false, retryAfterSeconds: null } as const;

/** Reasons that are no failure, or none yet. */
const BY_REASON: Readonly<Record<string, Decision>> = {
  PHOTO_UPLOADED: { next: "arrived" },
  UPLOAD_COMPLETE: AGAIN,
  UPLOAD_COMPLETING: AGAIN,
  UPLOAD_REPLACED: AGAIN,
  UPLOAD_OFFSET_MISMATCH: AGAIN,
  UPLOAD_CHECKSUM_MISMATCH: AGAIN,
  UPLOAD_NOT_FOUND: AGAIN,
  UPLOAD_GONE: AGAIN,
  UPLOAD_LOST: AGAIN,
  MESSAGE_STALLED: AGAIN,
  PARTS_MISSING: AGAIN,
  ETAG_MISMATCH: AGAIN,
  OBJECT_MISSING: AGAIN,
  REQUEST_IN_PROGRESS: AGAIN,
  IDEMPOTENCY_CONFLICT: AGAIN,
  NOT_MULTIPART: AGAIN,
  NOT_SINGLE: AGAIN,
  UPLOAD_EXPIRED: { next: "retry" },
  TUS_NEEDS_KEYS: { next: "without-tus" },
  BAD_STRATEGY: { next: "without-tus" },
};

/** The same bytes will be refused again, in any job and at any time. */
const FOR_GOOD: ReadonlySet<string> = new Set([
  "BAD_FILENAME",
  "UNSUPPORTED_CONTENT_TYPE",
  "BAD_PHOTO_SIZE",
  "EMPTY_FILE",
  "FILE_CHANGED",
  "PHOTO_INFECTED",
  "INVALID_REQUEST",
  "MESSAGE_TOO_LARGE",
  "UPLOAD_TOO_LARGE",
  // Of the processor (docs/processor.md): what it found in the bytes.
  "EMPTY",
  "UNSUPPORTED_FORMAT",
  "TYPE_MISMATCH",
  "INFECTED",
  "POLYGLOT",
  "TRUNCATED",
  "CORRUPT",
  "BOMB",
  "TOO_MANY_PIXELS",
  "TOO_MANY_FRAMES",
  "TOO_LARGE",
]);

/** Whether `retry` can succeed with the same bytes. */
export function canRetry(reason: string): boolean {
  return !FOR_GOOD.has(reason);
}

export function failureOf(reason: string, detail: string | null = null): UploadFailure {
  return { reason, detail, canRetry: canRetry(reason) };
}

export function decide(error: unknown): Decision {
  if (error instanceof SessionEnded) return { next: "log-in" };
  if (error instanceof NetworkError) return { ...AGAIN, isNetwork: !error.isTimeout };
  if (error instanceof StoreError) return ofStore(error);
  if (error instanceof ApiError) return ofApi(error);
  if (error instanceof DOMException && UNREADABLE.has(error.name)) return failed("FILE_CHANGED");
  return failed("UNKNOWN", error instanceof Error ? error.message : null);
}

/** Errors of reading a file that was changed, moved or deleted after it was chosen. */
const UNREADABLE: ReadonlySet<string> = new Set([
  "NotReadableError",
  "NotFoundError",
  "NotAllowedError",
  "SecurityError",
]);

function ofApi(error: ApiError): Decision {
  const known = BY_REASON[error.reason];
  if (known !== undefined) {
    return known.next === "again"
      ? { ...known, retryAfterSeconds: error.retryAfterSeconds }
      : known;
  }
  if (error.reason === "PHOTO_ENDED") {
    if (error.metadata["status"] === "COMPLETED") return { next: "completed" };
    if (error.metadata["status"] === "CANCELLED") return { next: "cancelled" };
  }
  if (error.isTemporary) return { ...AGAIN, retryAfterSeconds: error.retryAfterSeconds };
  return failed(error.reason, error.detail);
}

function ofStore(error: StoreError): Decision {
  switch (error.kind) {
    case "network":
      return { ...AGAIN, isNetwork: true };
    case "busy":
    case "gone":
    case "there":
      return { ...AGAIN, retryAfterSeconds: error.retryAfterSeconds };
    case "unreadable":
      return failed("FILE_CHANGED");
    case "checksum":
      return failed("CHECKSUM_MISMATCH");
    case "exists":
      return failed("OBJECT_EXISTS");
    case "denied":
    case "refused":
      return failed("STORE_REFUSED", error.reason);
  }
}

function failed(reason: string, detail: string | null = null): Decision {
  return { next: "failed", failure: failureOf(reason, detail) };
}
