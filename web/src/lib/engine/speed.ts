/** Speeds and the time left, smoothed. Pure. */

/** Seconds after which a former speed counts a third. */
const MEMORY_SECONDS = 4;
/** Seconds before which a first speed means nothing. */
const FIRST_SECONDS = 1;

export interface Speed {
  /** Bytes a second; null until it is known. */
  readonly bytesPerSecond: number | null;
  readonly bytes: number;
  readonly atMs: number;
  readonly sinceMs: number;
}

export function startSpeed(bytes: number, atMs: number): Speed {
  return { bytesPerSecond: null, bytes, atMs, sinceMs: atMs };
}

/** The speed after another measurement. Bytes that were taken back count as none, not as less. */
export function nextSpeed(speed: Speed, bytes: number, atMs: number): Speed {
  const seconds = (atMs - speed.atMs) / 1000;
  if (seconds <= 0) return { ...speed, bytes };
  const now = Math.max(0, bytes - speed.bytes) / seconds;
  const isFirst = speed.bytesPerSecond === null;
  if (isFirst && (atMs - speed.sinceMs) / 1000 < FIRST_SECONDS) {
    return { ...speed, bytes: speed.bytes, atMs: speed.atMs };
  }
  const weight = 1 - Math.exp(-seconds / MEMORY_SECONDS);
  const former = speed.bytesPerSecond ?? now;
  return { ...speed, bytesPerSecond: former + weight * (now - former), bytes, atMs };
}

/** Whole seconds; null while the speed is unknown or nothing moves. */
export function secondsLeft(bytesLeft: number, bytesPerSecond: number | null): number | null {
  if (bytesLeft <= 0) return 0;
  if (bytesPerSecond === null || bytesPerSecond < 1) return null;
  return Math.ceil(bytesLeft / bytesPerSecond);
}
