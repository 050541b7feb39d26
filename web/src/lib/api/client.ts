/** The typed client of the gateway's API: bearer tokens, deadlines, and repeats of queries. */
import createClient, { type Client } from "openapi-fetch";
import { ApiError, NetworkError, isAbort, isRecord, retryAfterOf } from "./errors";
import type { paths } from "./schema";
import { type Session, SessionEnded } from "./session";

export type Api = Client<paths>;

export interface ApiOptions {
  /** Of each try, in milliseconds. The creation of a job of 1,000 photos takes seconds. */
  readonly timeoutMs?: number;
  readonly fetch?: (request: Request) => Promise<Response>;
  readonly sleep?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

const TIMEOUT_MS = 60_000;
/** Repeats of a query that was refused for now, and the longest delay that is waited for. */
const REPEATS = 3;
const LONGEST_DELAY_MS = 10_000;
const FOR_NOW: ReadonlySet<number> = new Set([429, 503]);

/**
 * @param baseUrl - without a slash at its end; empty for the page's own origin.
 * Calls reject with `NetworkError` without an answer, `SessionEnded` when nobody is logged in, and
 * an `AbortError` when their signal was aborted. Pass them to `answerOf` to get `ApiError` too.
 */
export function createApi(baseUrl: string, session: Session, options: ApiOptions = {}): Api {
  return createClient<paths>({ baseUrl, fetch: authorizedFetch(session, options) });
}

/** `fetch` with the session's token, which is renewed once if the gateway refuses it. */
export function authorizedFetch(
  session: Session,
  options: ApiOptions = {},
): (request: Request) => Promise<Response> {
  const pause = options.sleep ?? sleep;
  return async (request) => {
    let mustRenew = false;
    for (let repeats = 0; ;) {
      const token = await session.token(mustRenew ? { renew: true } : undefined);
      // A body can be sent once; the clone leaves one for a repeat.
      const response = await fetchInTime(request.clone(), token, options);
      if (response.status === 401) {
        if (mustRenew) throw new SessionEnded(await reasonOf(response));
        mustRenew = true;
        continue;
      }
      if (!FOR_NOW.has(response.status) || request.method !== "GET" || repeats >= REPEATS) {
        return response;
      }
      repeats += 1;
      const delayMs = 1000 * (retryAfterOf(response.headers.get("retry-after")) ?? 1);
      if (delayMs > LONGEST_DELAY_MS) return response;
      await pause(delayMs, request.signal);
    }
  };
}

/** The data of an answer. Raises `ApiError` if the answer is an error. */
export async function answerOf<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw ApiError.of(response, error);
  // Of a 204 there is none, and its type says so.
  return data as T;
}

/** Wait; rejects with the signal's reason when it is aborted. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortReason(signal));
      return;
    }
    const stop = () => {
      clearTimeout(timer);
      reject(abortReason(signal));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function abortReason(signal?: AbortSignal): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new DOMException("Aborted", "AbortError");
}

async function fetchInTime(
  request: Request,
  token: string | null,
  options: ApiOptions,
): Promise<Response> {
  const send = options.fetch ?? ((each: Request) => fetch(each));
  if (token !== null) request.headers.set("authorization", `Bearer ${token}`);
  const deadline = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  const signal = AbortSignal.any([request.signal, deadline]);
  try {
    return await send(new Request(request, { signal }));
  } catch (error) {
    if (request.signal.aborted) throw isAbort(error) ? error : abortReason(request.signal);
    throw new NetworkError(deadline.aborted, { cause: error });
  }
}

async function reasonOf(response: Response): Promise<string> {
  try {
    const body: unknown = await response.clone().json();
    return isRecord(body) && typeof body["reason"] === "string" ? body["reason"] : "NO_CREDENTIALS";
  } catch {
    return "NO_CREDENTIALS"; // not the gateway's own answer
  }
}
