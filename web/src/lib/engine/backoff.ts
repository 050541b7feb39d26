/** Delays between repeats: exponential with full jitter. Pure. */

export interface Backoff {
  readonly baseMs: number;
  readonly capMs: number;
}

/**
 * Milliseconds before repeat number `attempt` (from 0). Full jitter: clients that failed together
 * do not come back together.
 */
export function jittered(attempt: number, backoff: Backoff, random = Math.random): number {
  // 2 ** 30 is beyond any cap, and stays exact.
  const ceiling = Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(attempt, 30));
  return random() * ceiling;
}

/** The delay that the server asked for, at least, with jitter on top. */
export function delayOf(
  attempt: number,
  backoff: Backoff,
  retryAfterSeconds: number | null,
  random = Math.random,
): number {
  const own = jittered(attempt, backoff, random);
  return retryAfterSeconds === null ? own : 1000 * retryAfterSeconds + Math.min(own, 1000);
}
