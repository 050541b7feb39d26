/** Repeats of calls that failed for the moment. */
import { type Backoff, delayOf } from "@/lib/engine/backoff";
import { sleep } from "./client";
import { ApiError, NetworkError } from "./errors";

export interface RepeatOptions {
  readonly signal?: AbortSignal;
  /** Tries in all. */
  readonly tries?: number;
  readonly backoff?: Backoff;
  readonly random?: () => number;
  readonly pause?: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
  /** Before each pause, in milliseconds. */
  readonly onPause?: (milliseconds: number, error: ApiError | NetworkError) => void;
}

export const CALL_BACKOFF: Backoff = { baseMs: 500, capMs: 15_000 };

/** Whether a repeat of the same call may succeed without anybody doing anything. */
export function isPassing(error: unknown): error is ApiError | NetworkError {
  return error instanceof NetworkError || (error instanceof ApiError && error.isTemporary);
}

/**
 * Repeat a call that is safe to repeat while its errors are passing ones, after `Retry-After` or
 * a delay that grows. @throws the last error.
 */
export async function repeated<T>(call: () => Promise<T>, options: RepeatOptions = {}): Promise<T> {
  const { signal, tries = 5, backoff = CALL_BACKOFF, random, pause = sleep, onPause } = options;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      if (!isPassing(error) || attempt + 1 >= tries) throw error;
      const asked = error instanceof ApiError ? error.retryAfterSeconds : null;
      const delayMs = delayOf(attempt, backoff, asked, random);
      onPause?.(delayMs, error);
      await pause(delayMs, signal);
    }
  }
}
