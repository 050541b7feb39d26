/** A PUT that is repeated as its failure demands: with another URL, the bytes again, or later. */
import { sleep } from "@/lib/api/client";
import { type Backoff, delayOf } from "@/lib/engine/backoff";
import { StoreError, put } from "./put";

/** A signed URL, and what has to be sent with it unchanged. */
export interface SignedPut {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface RepeatedPut {
  readonly body: Blob;
  readonly signal: AbortSignal;
  /** @param mustRenew - the store has refused the last one. */
  readonly urlOf: (mustRenew: boolean) => Promise<SignedPut>;
  readonly onProgress: (bytes: number) => void;
  /**
   * Asked before a PUT without an answer is repeated. A store that has the object may refuse the
   * repeat before it has read it, and browsers then see a connection that broke, time and again.
   */
  readonly hasArrived?: () => Promise<boolean>;
  readonly put?: typeof put;
  readonly pause?: typeof sleep;
  readonly random?: () => number;
}

export const PUT_BACKOFF: Backoff = { baseMs: 400, capMs: 10_000 };
const TRIES: Readonly<Partial<Record<StoreError["kind"], number>>> = {
  denied: 3,
  checksum: 4,
  busy: 5,
  network: 3,
};

/** @throws `StoreError` of the last try; what `urlOf` throws; `AbortError` of the signal. */
export async function putRepeatedly(options: RepeatedPut): Promise<void> {
  const { body, signal, urlOf, onProgress, hasArrived, random, pause = sleep } = options;
  const send = options.put ?? put;
  const failures = new Map<StoreError["kind"], number>();
  let mustRenew = false;
  for (;;) {
    const { url, headers } = await urlOf(mustRenew);
    mustRenew = false;
    try {
      await send({ url, headers, body, signal, onProgress });
      return;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (error.kind === "network" && (await hasArrived?.()) === true) return;
      onProgress(0);
      const count = (failures.get(error.kind) ?? 0) + 1;
      failures.set(error.kind, count);
      if (count >= (TRIES[error.kind] ?? 1)) throw error;
      if (error.kind === "denied") mustRenew = true;
      else await pause(delayOf(count - 1, PUT_BACKOFF, error.retryAfterSeconds, random), signal);
    }
  }
}

/** Milliseconds before its end at which a URL is renewed rather than used. */
export const RENEWAL_MARGIN_MS = 60_000;
/** The clock of this machine may be wrong: a URL that was signed just now is always used. */
const FRESH_MS = 30_000;

/** Whether a URL may be used: by its stated end, or because it has just been signed. */
export function isUsable(expiresAt: string | null, signedAtMs: number, nowMs: number): boolean {
  if (nowMs - signedAtMs < FRESH_MS) return true;
  const endMs = expiresAt === null ? Number.NaN : Date.parse(expiresAt);
  return !Number.isNaN(endMs) && endMs - nowMs > RENEWAL_MARGIN_MS;
}
