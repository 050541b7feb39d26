/** Measures speeds while something is sent, twice a second. */
import type { UploadState } from "@/stores/uploadTypes";
import type { EngineCore } from "./core";
import { type Speed, nextSpeed, secondsLeft, startSpeed } from "./speed";

const INTERVAL_MS = 500;

export class Meter {
  private readonly speeds = new Map<string, Speed>();
  /** Bytes of all files, also of those that have arrived since. */
  private total: Speed | null = null;
  private sent = 0;
  private timer: ReturnType<typeof setInterval> | null = null;

  /** @param onTick - after each measurement. */
  constructor(
    private readonly core: EngineCore,
    private readonly onTick: (state: UploadState) => void,
    private readonly now: () => number = Date.now,
  ) {
    core.onChange(({ before, after, ids }) => {
      for (const id of ids) {
        const had = before.items.get(id);
        const has = after.items.get(id);
        // What was sent: not what was there already when it was added, nor what is taken back.
        if (had !== undefined && has !== undefined && had.phase === "sending") {
          this.sent += Math.max(0, has.bytesSent - had.bytesSent);
        }
      }
      if (after.summary.uploading > 0) this.start();
    });
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  private start(): void {
    if (this.timer !== null) return;
    this.total = startSpeed(this.sent, this.now());
    this.timer = setInterval(() => {
      this.tick();
    }, INTERVAL_MS);
  }

  private tick(): void {
    const { state } = this.core;
    const now = this.now();
    const isIdle = state.summary.uploading === 0;
    if (isIdle) {
      this.stop();
      this.speeds.clear();
      this.total = null;
    } else this.measure(state, now);
    const bytesPerSecond = this.total?.bytesPerSecond ?? null;
    this.core.dispatch({
      type: "measured",
      speeds: this.rounded(),
      bytesPerSecond: bytesPerSecond === null ? null : Math.round(bytesPerSecond),
      secondsLeft: isIdle ? null : secondsLeft(bytesLeft(state), bytesPerSecond),
    });
    this.onTick(state);
  }

  private measure(state: UploadState, now: number): void {
    this.total = nextSpeed(this.total ?? startSpeed(this.sent, now), this.sent, now);
    const sending = new Set<string>();
    for (const item of state.items.values()) {
      if (item.phase !== "sending") continue;
      sending.add(item.id);
      const known = this.speeds.get(item.id);
      const next =
        known === undefined
          ? startSpeed(item.bytesSent, now)
          : nextSpeed(known, item.bytesSent, now);
      this.speeds.set(item.id, next);
    }
    for (const id of this.speeds.keys()) if (!sending.has(id)) this.speeds.delete(id);
  }

  private rounded(): ReadonlyMap<string, number> {
    const known = new Map<string, number>();
    for (const [id, { bytesPerSecond }] of this.speeds) {
      if (bytesPerSecond !== null) known.set(id, Math.round(bytesPerSecond));
    }
    return known;
  }
}

/** Of what is sent by itself: not what is paused or has failed. */
function bytesLeft(state: UploadState): number {
  let bytes = 0;
  for (const { phase, size, bytesSent } of state.items.values()) {
    if (phase === "sending" || phase === "waiting") bytes += size - bytesSent;
  }
  return bytes;
}
