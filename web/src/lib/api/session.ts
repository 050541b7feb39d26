/** The session of the person at this browser: tokens, their renewal, and its end. */

export interface Session {
  /**
   * A token that is valid for half a minute or more, renewed if need be; null where the gateway
   * needs none. Concurrent callers, other tabs included, share one renewal.
   *
   * @param renew - get another one although this one has not ended, because it was refused.
   * @throws `SessionEnded` when nobody is logged in any more.
   */
  token(options?: { readonly renew: boolean }): Promise<string | null>;
}

/** Nobody is logged in, or no longer: show the log-in page. */
export class SessionEnded extends Error {
  override readonly name = "SessionEnded";
}
