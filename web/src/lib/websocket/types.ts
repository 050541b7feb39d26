/** Live updates, whichever way they arrive: docs/live.md is the contract with the gateway. */
import type { LiveTransport } from "@/stores/uploadTypes";

export type PhotoStatus =
  "QUEUED" | "UPLOADING" | "PROCESSING" | "COMPLETED" | "FAILED" | "CANCELLED";

export type JobStatus =
  "QUEUED" | "IN_PROGRESS" | "COMPLETED" | "COMPLETED_WITH_ERRORS" | "FAILED" | "CANCELLED";

/** The whole state of a photo, or of the job itself where `photoId` is null. */
export interface ProgressUpdate {
  readonly jobId: string;
  readonly photoId: string | null;
  readonly status: PhotoStatus | JobStatus;
  /** Percent. */
  readonly progress: number;
  readonly sequence: number;
  readonly bytesSent: number | null;
  readonly bytesTotal: number | null;
  readonly reason: string | null;
}

/** Where updates go. A snapshot replaces what was known of the job; a change one photo of it. */
export interface LiveListener {
  /** `complete`: every photo of the job is in it, so others of the job do not exist. */
  onSnapshot(jobId: string, updates: readonly ProgressUpdate[], complete: boolean): void;
  onChange(update: ProgressUpdate): void;
  onTransport(transport: LiveTransport): void;
  /** The job is unknown, deleted or another user's: it is not followed any more. */
  onGone(jobId: string): void;
}

/** Follows jobs by STOMP, then SSE, then polling; back within five seconds after a drop. */
export interface LiveUpdates {
  follow(jobId: string): void;
  unfollow(jobId: string): void;
  /** Look at once, for example when the page becomes visible or the network is back. */
  wake(): void;
  stop(): void;
}

export interface LiveOptions {
  readonly baseUrl: string;
  readonly listener: LiveListener;
  /** A token that is valid for a while; null where the gateway needs none. */
  token(options?: { readonly renew: boolean }): Promise<string | null>;
}
