/** Reading of the gateway's JSON: anything else than the contract is refused, not guessed. */
import type { JobStatus, PhotoStatus, ProgressUpdate } from "./types";

const PHOTO_STATES: ReadonlySet<string> = new Set<PhotoStatus>([
  "QUEUED",
  "UPLOADING",
  "PROCESSING",
  "COMPLETED",
  "FAILED",
  "CANCELLED",
]);
const JOB_STATES: ReadonlySet<string> = new Set<JobStatus>([
  "QUEUED",
  "IN_PROGRESS",
  "COMPLETED",
  "COMPLETED_WITH_ERRORS",
  "FAILED",
  "CANCELLED",
]);
const JOB_ENDS: ReadonlySet<string> = new Set<JobStatus>([
  "COMPLETED",
  "COMPLETED_WITH_ERRORS",
  "FAILED",
  "CANCELLED",
]);

type Members = Readonly<Record<string, unknown>>;

/** Return the JSON of a text; undefined if it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Return whether a job of this status changes no more, unless a photo of it is retried. */
export function isJobEnd(status: string): boolean {
  return JOB_ENDS.has(status);
}

/** Return the update, or null for a value that is none. */
export function readUpdate(value: unknown): ProgressUpdate | null {
  if (!isMembers(value)) return null;
  const { jobId, photoId, status, progress, sequence, reason } = value;
  if (typeof jobId !== "string" || jobId === "") return null;
  if (photoId !== null && typeof photoId !== "string") return null;
  const states = photoId === null ? JOB_STATES : PHOTO_STATES;
  if (!isStatus(status, states) || !isCount(progress) || progress > 100) return null;
  if (!isCount(sequence)) return null;
  return {
    jobId,
    photoId,
    status,
    progress,
    sequence,
    bytesSent: countOrNull(value["bytesSent"]),
    bytesTotal: countOrNull(value["bytesTotal"]),
    reason: typeof reason === "string" ? reason : null,
  };
}

/** The `snapshot` event of a stream: a piece of it, and whether it is the last one. */
export interface SnapshotPiece {
  readonly complete: boolean;
  readonly updates: readonly ProgressUpdate[];
}

/** Return the piece, or null for a value that is none. */
export function readSnapshotPiece(value: unknown): SnapshotPiece | null {
  if (!isMembers(value) || typeof value["complete"] !== "boolean") return null;
  const updates = readAll(value["updates"], readUpdate);
  return updates === null ? null : { complete: value["complete"], updates };
}

/**
 * Return the answer of `GET /queries/upload-jobs/{jobId}` as updates, the job itself last; null for
 * a value that is none. They have no sequence.
 */
export function readJob(value: unknown): readonly ProgressUpdate[] | null {
  if (!isMembers(value)) return null;
  const { jobId, status, progress, bytesSent, bytesTotal } = value;
  const photos = readAll(value["photos"], (photo) =>
    isMembers(photo)
      ? readUpdate({ ...photo, jobId, sequence: 0, bytesTotal: photo["bytes"] })
      : null,
  );
  const job = readUpdate({
    jobId,
    photoId: null,
    status,
    progress,
    sequence: 0,
    bytesSent,
    bytesTotal,
    reason: null,
  });
  return photos === null || job === null ? null : [...photos, job];
}

/** Return the seconds until the token ends, for the warning before that; null for anything else. */
export function readTokenNotice(value: unknown): number | null {
  if (!isMembers(value) || value["type"] !== "TOKEN_EXPIRES") return null;
  const { secondsLeft } = value;
  return isCount(secondsLeft) ? secondsLeft : null;
}

/** Return the `reason` of an error's body or of problem details; null if there is none. */
export function readReason(value: unknown): string | null {
  return isMembers(value) && typeof value["reason"] === "string" ? value["reason"] : null;
}

const TOKEN_REASONS: ReadonlySet<string> = new Set([
  "NO_CREDENTIALS",
  "BAD_TOKEN",
  "TOKEN_EXPIRED",
]);

/** Return whether another token may help. */
export function isTokenReason(reason: string | null): boolean {
  return reason !== null && TOKEN_REASONS.has(reason);
}

function readAll<Item>(value: unknown, read: (item: unknown) => Item | null): Item[] | null {
  if (!Array.isArray(value)) return null;
  const items: Item[] = [];
  for (const each of value) {
    const item = read(each);
    if (item === null) return null;
    items.push(item);
  }
  return items;
}

function isMembers(value: unknown): value is Members {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isStatus(value: unknown, states: ReadonlySet<string>): value is PhotoStatus | JobStatus {
  return typeof value === "string" && states.has(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}

function countOrNull(value: unknown): number | null {
  return isCount(value) ? value : null;
}
