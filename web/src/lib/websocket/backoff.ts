/** Delays between attempts: exponential with jitter, below the promise to be back in 5 s. */

const FIRST_MS = 250;
/** With the limit of an attempt that gets no answer, 2.5 s, it stays below 5 s. */
const LONGEST_MS = 2_000;

/**
 * Return the delay before the next attempt in milliseconds, 125 to 2,000.
 *
 * @param failures - attempts that failed since the last success; 0 after a connection that broke.
 * @param random - at least 0, below 1. Spreads clients that were cut off together.
 */
export function backoffMs(failures: number, random: number): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures, 10));
  return Math.round(full * (0.5 + random / 2));
}

/** Longest delay that a server's spread of a restart is given, so that clients are back in 5 s. */
const LONGEST_RESTART_MS = 4_000;
/** A stopping replica spreads its clients over this time. */
const SPREAD_MS = 10_000;

/**
 * Return the delay after a replica that stops, in milliseconds.
 *
 * Its hint is evenly spread over 10 s; scaling keeps it so, where a limit would have most clients
 * come back in the same instant.
 */
export function restartMs(hintMs: number): number {
  return Math.round((Math.min(Math.max(hintMs, 0), SPREAD_MS) / SPREAD_MS) * LONGEST_RESTART_MS);
}
