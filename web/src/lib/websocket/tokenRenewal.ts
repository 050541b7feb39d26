/** When a connection is exchanged for one with a new token. */

/** Time to connect anew before the old token ends. Seconds. */
const MARGIN_SECONDS = 30;

/**
 * Return the delay from the warning to the new connection, in milliseconds.
 *
 * Not at once: a token that lives for a minute is followed by a warning immediately, and each new
 * connection would be exchanged again.
 */
export function renewalDelayMs(secondsLeft: number): number {
  return Math.max(1, secondsLeft - MARGIN_SECONDS) * 1000;
}
