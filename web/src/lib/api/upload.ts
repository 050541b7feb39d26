/** The commands and queries of upload jobs. Each POST may be repeated with its key. */
import { type Api, answerOf } from "./client";
import type {
  FileBody,
  JobView,
  NewJobView,
  PartsView,
  PhotoStateView,
  UploadItemView,
  UploadLimitsView,
  WantedPartBody,
} from "./schema";

export type { FileBody, JobView, NewJobView, PartsView, PhotoStateView, UploadItemView };
export type { UploadLimitsView };

export type JobStrategy = "s3-presigned" | "tus";

/** What a report of progress says. */
export interface ProgressReport {
  readonly photoId: string;
  readonly bytesSent: number;
  readonly bytesTotal: number;
}

/** Photos of a job, unless the gateway says another number, and reports of one post, at most. */
export const MAX_JOB_PHOTOS = 1000;

/** A key of one request and its repeats. Also without a secure context, unlike `randomUUID`. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const keyed = (key: string) => ({ "Idempotency-Key": key });

/**
 * Calls about uploads. All of them reject with `ApiError`, `NetworkError`, `SessionEnded`, or an
 * `AbortError` of the signal. `key`: the same one for all tries of the same request.
 */
export interface UploadCalls {
  createJob(
    files: readonly FileBody[],
    strategy: JobStrategy,
    key: string,
    signal?: AbortSignal,
  ): Promise<NewJobView>;
  /** What the gateway takes. */
  limits(signal?: AbortSignal): Promise<UploadLimitsView>;
  getJob(jobId: string, signal?: AbortSignal): Promise<JobView>;
  cancelJob(jobId: string, key: string, signal?: AbortSignal): Promise<JobView>;
  /** Without `parts` URLs for all parts that the store lacks; with an empty list none. */
  signParts(
    photoId: string,
    body: { readonly uploadId?: string; readonly parts?: readonly WantedPartBody[] },
    signal?: AbortSignal,
  ): Promise<PartsView>;
  finalize(
    photoId: string,
    uploadId: string | null,
    key: string,
    signal?: AbortSignal,
  ): Promise<PhotoStateView>;
  renew(photoId: string, signal?: AbortSignal): Promise<UploadItemView>;
  retry(photoId: string, key: string, signal?: AbortSignal): Promise<UploadItemView>;
  reprocess(photoId: string, key: string, signal?: AbortSignal): Promise<PhotoStateView>;
  cancel(photoId: string, key: string, signal?: AbortSignal): Promise<PhotoStateView>;
  reportProgress(reports: readonly ProgressReport[], signal?: AbortSignal): Promise<void>;
}

export function uploadCalls(api: Api): UploadCalls {
  return {
    createJob: (files, strategy, key, signal) =>
      answerOf(
        api.POST("/commands/upload-jobs", {
          params: { header: keyed(key) },
          body: { files: [...files], strategy },
          ...given(signal),
        }),
      ),
    limits: (signal) => answerOf(api.GET("/queries/upload-limits", { ...given(signal) })),
    getJob: (jobId, signal) =>
      answerOf(
        api.GET("/queries/upload-jobs/{jobId}", { params: { path: { jobId } }, ...given(signal) }),
      ),
    cancelJob: (jobId, key, signal) =>
      answerOf(
        api.POST("/commands/upload-jobs/{jobId}/cancel", {
          params: { path: { jobId }, header: keyed(key) },
          ...given(signal),
        }),
      ),
    // Without a key: a repeat has to get URLs that are valid now, not those of the first answer.
    signParts: (photoId, { uploadId, parts }, signal) =>
      answerOf(
        api.POST("/commands/upload/{photoId}/parts", {
          params: { path: { photoId } },
          body: {
            ...(uploadId === undefined ? {} : { uploadId }),
            ...(parts === undefined ? {} : { parts: [...parts] }),
          },
          ...given(signal),
        }),
      ),
    finalize: (photoId, uploadId, key, signal) =>
      answerOf(
        api.POST("/commands/upload/{photoId}/finalize", {
          params: { path: { photoId }, header: keyed(key) },
          body: uploadId === null ? {} : { uploadId },
          ...given(signal),
        }),
      ),
    renew: (photoId, signal) =>
      answerOf(
        api.POST("/commands/upload/{photoId}/renew", {
          params: { path: { photoId } },
          ...given(signal),
        }),
      ),
    retry: (photoId, key, signal) =>
      answerOf(
        api.POST("/commands/upload/{photoId}/retry", {
          params: { path: { photoId }, header: keyed(key) },
          ...given(signal),
        }),
      ),
    reprocess: (photoId, key, signal) =>
      answerOf(
        api.POST("/commands/photos/{photoId}/reprocess", {
          params: { path: { photoId }, header: keyed(key) },
          ...given(signal),
        }),
      ),
    cancel: (photoId, key, signal) =>
      answerOf(
        api.POST("/commands/upload/{photoId}/cancel", {
          params: { path: { photoId }, header: keyed(key) },
          ...given(signal),
        }),
      ),
    reportProgress: async (reports, signal) => {
      await answerOf(
        api.POST("/commands/upload/progress", { body: [...reports], ...given(signal) }),
      );
    },
  };
}

/** Absent rather than undefined, as the types demand. */
function given(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
