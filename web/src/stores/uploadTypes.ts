/** What the upload store holds: one item per file, and what its users may ask for. */

/**
 * Where a file is on its way, as seen by the person who sends it.
 *
 * `waiting` → `sending` → `processing` → `completed`, with `paused` beside the first two.
 * `rejected`: refused before anything was sent. `needs-file`: under way before a reload, and its
 * bytes have to be chosen again. The last five of this list are ends; `failed` can be retried.
 */
export type UploadPhase =
  | "waiting"
  | "sending"
  | "paused"
  | "needs-file"
  | "processing"
  | "completed"
  | "failed"
  | "cancelled"
  | "rejected"
  | "duplicate";

/** How the bytes travel. */
export type UploadStrategy = "single" | "multipart" | "tus";

/** A stable reason, as of the server's problem details, and what it says in detail. */
export interface UploadFailure {
  /** Such as `UNSUPPORTED_CONTENT_TYPE`; translated by `lib/i18n` under `reasons.*`. */
  readonly reason: string;
  /** In English, from the server; shown where there is no translation. */
  readonly detail: string | null;
  /** Whether `retry` can succeed with the same bytes. */
  readonly canRetry: boolean;
}

/** One file. Immutable: a change makes a new object, so that its row alone is drawn again. */
export interface UploadItem {
  /** Of this browser, kept over a reload. */
  readonly id: string;
  readonly batchId: string;
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly type: string;
  /** Its place in the queue, kept over a reload: smaller ones are before it. Of a new one the time. */
  readonly rank: number;
  readonly phase: UploadPhase;
  readonly strategy: UploadStrategy;
  /** Handed over to the network in this attempt, and parts that the store has; never above `size`. */
  readonly bytesSent: number;
  /** Of the server, once the batch's job exists. */
  readonly jobId: string | null;
  readonly photoId: string | null;
  readonly attempt: number;
  readonly failure: UploadFailure | null;
  /** Bytes a second, smoothed; null while it is unknown. */
  readonly bytesPerSecond: number | null;
  /** Object URL or signed URL of a small picture; null until there is one. */
  readonly thumbnailUrl: string | null;
}

/** Sums over all items, kept up to date with each change. */
export interface UploadSummary {
  readonly total: number;
  readonly waiting: number;
  /** `sending`. */
  readonly uploading: number;
  readonly paused: number;
  readonly processing: number;
  readonly completed: number;
  /** `failed` and `rejected`. */
  readonly failed: number;
  readonly cancelled: number;
  readonly needsFile: number;
  /** Bytes of all items that are not cancelled, rejected or duplicates. */
  readonly bytesTotal: number;
  readonly bytesSent: number;
  readonly bytesPerSecond: number | null;
  /** Null while it is unknown. */
  readonly secondsLeft: number | null;
}

/** What the gateway takes. It has the last word, on each job. */
export interface UploadLimits {
  /** Bytes of the largest photo; `Infinity` until the gateway has said it. */
  readonly maxPhotoBytes: number;
  readonly maxJobPhotos: number;
  readonly contentTypes: ReadonlySet<string>;
  /** Larger files are sent in parts. */
  readonly maxSinglePutBytes: number;
  /** Larger files go by tus; `Infinity`: none do. */
  readonly tusAboveBytes: number;
}

/** How changes of the server arrive. `connecting` before the first one of a connection. */
export type LiveTransport = "connecting" | "stomp" | "sse" | "polling" | "offline";

export interface UploadState {
  readonly items: ReadonlyMap<string, UploadItem>;
  /** Ids in the order of the queue: priority is position. */
  readonly order: readonly string[];
  readonly summary: UploadSummary;
  readonly isPaused: boolean;
  /** Uploads at once, 1 to 100. */
  readonly concurrency: number;
  readonly isOnline: boolean;
  readonly live: LiveTransport;
  readonly limits: UploadLimits;
}

/** A file, and a handle by which it can be opened after a reload where the browser has one. */
export interface FileSource {
  readonly file: File;
  readonly handle?: FileSystemFileHandle;
  /** Folder below the one that was chosen, with `/`; part of what makes a duplicate. */
  readonly folder?: string;
}

/** What people do with uploads. All of them return at once and show in the state. */
export interface UploadActions {
  add(sources: readonly FileSource[]): void;
  pauseAll(): void;
  resumeAll(): void;
  pause(id: string): void;
  resume(id: string): void;
  cancel(id: string): void;
  cancelAll(): void;
  retry(id: string): void;
  retryAll(): void;
  /** Remove an item that has ended from the list. */
  clear(id: string): void;
  clearEnded(): void;
  /** Move before another item; to the end if `beforeId` is null. */
  move(id: string, beforeId: string | null): void;
  setConcurrency(uploads: number): void;
  /** Offer files for items that need theirs again; returns the ids of those that matched. */
  provide(files: readonly FileSource[]): Promise<readonly string[]>;
}

/** An end of a batch, for a toast. */
export interface BatchEnd {
  readonly batchId: string;
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
}
