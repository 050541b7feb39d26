/** One read of a job's state: `GET /queries/upload-jobs/{jobId}` with its `ETag`. */
import { isTokenReason, parseJson, readJob, readReason } from "./messages";
import type { TransportContext } from "./transport";
import type { ProgressUpdate } from "./types";

const ANSWER_MS = 10_000;
const DEFAULT_RETRY_MS = 1_500;
const LONGEST_RETRY_MS = 60_000;

export type JobAnswer =
  | {
      readonly kind: "state";
      readonly updates: readonly ProgressUpdate[];
      readonly etag: string | null;
    }
  | { readonly kind: "same" | "gone" | "token" | "lost" }
  | { readonly kind: "busy"; readonly retryAfterMs: number };

/**
 * Read the job. Never rejects: what went wrong is in the answer.
 *
 * @param etag - of the last answer.
 */
export async function readJobState(
  context: TransportContext,
  jobId: string,
  token: string | null,
  etag: string | null,
  signal: AbortSignal,
): Promise<JobAnswer> {
  const headers = new Headers({ accept: "application/json" });
  if (token !== null) headers.set("authorization", `Bearer ${token}`);
  if (etag !== null) headers.set("if-none-match", etag);
  const limit = new AbortController();
  const onAbort = (): void => {
    limit.abort();
  };
  signal.addEventListener("abort", onAbort);
  const timer = context.environment.setTimer(onAbort, ANSWER_MS);
  try {
    const url = `${context.baseUrl}/queries/upload-jobs/${encodeURIComponent(jobId)}`;
    const response = await context.environment.fetch(url, {
      headers,
      signal: limit.signal,
      // The tag is ours: the browser's cache would hide a 304.
      cache: "no-store",
    });
    return await toAnswer(response);
  } catch {
    return { kind: "lost" };
  } finally {
    context.environment.clearTimer(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

async function toAnswer(response: Response): Promise<JobAnswer> {
  if (response.status === 304) return { kind: "same" };
  const body = parseJson(await response.text());
  if (response.status === 200) {
    const updates = readJob(body);
    return updates === null
      ? { kind: "busy", retryAfterMs: LONGEST_RETRY_MS }
      : { kind: "state", updates, etag: response.headers.get("etag") };
  }
  const reason = readReason(body);
  if (response.status === 404 && reason === "JOB_NOT_FOUND") return { kind: "gone" };
  if (response.status === 401 || isTokenReason(reason)) return { kind: "token" };
  return { kind: "busy", retryAfterMs: retryAfterMs(response) ?? DEFAULT_RETRY_MS };
}

/** Return `Retry-After` in milliseconds, at most a minute; null without one. */
export function retryAfterMs(response: Response): number | null {
  const text = response.headers.get("retry-after");
  if (text === null || !/^[0-9]{1,6}$/.test(text)) return null;
  return Math.min(Number(text) * 1000, LONGEST_RETRY_MS);
}
