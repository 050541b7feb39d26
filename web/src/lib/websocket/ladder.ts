/**
 * Which way is used: STOMP, then SSE, then polling. A pure state machine; `client.ts` does what it
 * asks for.
 *
 * A rung is tried while no better one is up and each better one has failed twice, or was refused.
 * The better ones go on trying: often while nothing is up, every 30 s beside one that is. Whichever
 * opens first is used, and the worse ones are closed: a server that comes back, a proxy that lets
 * nothing through but GET, and a network that is down need no different treatment.
 */
import { backoffMs, restartMs } from "./backoff";
import type { End } from "./transport";
import type { LiveTransport } from "@/stores/uploadTypes";

/** From the best to the worst. */
export const RUNGS = ["stomp", "sse", "polling"] as const;
export type Rung = (typeof RUNGS)[number];

/** How often a better way is tried beside one that works. Milliseconds. */
export const PROBE_MS = 30_000;
/** After this one that has worked before: the server may just have come back. Milliseconds. */
const SOON_MS = 1_000;
/** A connection that lives shorter counts as failed, so that a proxy that cuts each does not keep
 * us from the next rung. Milliseconds. */
const STABLE_MS = 3_000;
const FAILURES_OF_BLOCKED = 2;

interface RungState {
  readonly phase: "idle" | "waiting" | "opening" | "up";
  readonly failures: number;
  readonly wasUp: boolean;
  readonly isRefused: boolean;
  readonly upAt: number;
}

export interface LadderState {
  readonly rungs: Readonly<Record<Rung, RungState>>;
  /** Whether there are jobs to follow: without any only the best way is held open. */
  readonly isWanted: boolean;
  readonly isOnline: boolean;
  readonly isStopped: boolean;
  readonly reported: LiveTransport | null;
}

export type LadderEvent =
  | { readonly type: "start"; readonly isOnline: boolean }
  | { readonly type: "wanted"; readonly isWanted: boolean }
  | { readonly type: "up"; readonly rung: Rung }
  | { readonly type: "down"; readonly rung: Rung; readonly end: End }
  | { readonly type: "due"; readonly rung: Rung }
  | { readonly type: "wake"; readonly isOnline: boolean }
  | { readonly type: "stop" };

/** What the owner does, in this order. `wait`: send `due` after that time, instead of any other. */
export type LadderCommand =
  | { readonly type: "open"; readonly rung: Rung }
  | { readonly type: "close"; readonly rung: Rung }
  | { readonly type: "check"; readonly rung: Rung }
  | { readonly type: "wait"; readonly rung: Rung; readonly ms: number }
  | { readonly type: "report"; readonly transport: LiveTransport };

export interface LadderStep {
  readonly state: LadderState;
  readonly commands: readonly LadderCommand[];
}

const IDLE: RungState = { phase: "idle", failures: 0, wasUp: false, isRefused: false, upAt: 0 };

export const INITIAL_LADDER: LadderState = {
  rungs: { stomp: IDLE, sse: IDLE, polling: IDLE },
  isWanted: false,
  isOnline: true,
  isStopped: true,
  reported: null,
};

/**
 * Return the next state, and what to do.
 *
 * @param now - milliseconds.
 * @param random - at least 0, below 1.
 */
export function climb(
  state: LadderState,
  event: LadderEvent,
  now: number,
  random: () => number,
): LadderStep {
  const step = new Step(state, now, random);
  step.take(event);
  return step.finish();
}

class Step {
  #state: LadderState;
  readonly #commands: LadderCommand[] = [];
  readonly #now: number;
  readonly #random: () => number;

  constructor(state: LadderState, now: number, random: () => number) {
    this.#state = state;
    this.#now = now;
    this.#random = random;
  }

  take(event: LadderEvent): void {
    if (this.#state.isStopped && event.type !== "start") return;
    switch (event.type) {
      case "start":
        this.#state = { ...this.#state, isStopped: false, isOnline: event.isOnline };
        break;
      case "wanted":
        this.#want(event.isWanted);
        break;
      case "up":
        this.#up(event.rung);
        break;
      case "down":
        this.#down(event.rung, event.end);
        break;
      case "due":
        if (this.#rung(event.rung).phase === "waiting") this.#open(event.rung);
        break;
      case "wake":
        this.#wake(event.isOnline);
        break;
      case "stop":
        for (const rung of RUNGS) this.#close(rung);
        this.#state = { ...this.#state, isStopped: true };
    }
  }

  finish(): LadderStep {
    if (!this.#state.isStopped) this.#settle();
    return { state: this.#state, commands: this.#commands };
  }

  #want(isWanted: boolean): void {
    const isNew = isWanted && !this.#state.isWanted;
    this.#state = { ...this.#state, isWanted };
    if (isNew) this.#openWaiting();
  }

  #up(rung: Rung): void {
    if (this.#rung(rung).phase !== "opening") return;
    this.#set(rung, { phase: "up", wasUp: true, isRefused: false, upAt: this.#now });
    for (const better of betterThan(rung)) {
      const { phase, failures, wasUp } = this.#rung(better);
      // How often it failed while nothing worked says nothing about it: it is due soon, once.
      if (wasUp) this.#set(better, { failures: Math.min(failures, FAILURES_OF_BLOCKED) });
      if (phase === "waiting") this.#wait(better, this.#probeMs(better));
    }
  }

  #down(rung: Rung, end: End): void {
    const before = this.#rung(rung);
    if (before.phase !== "opening" && before.phase !== "up") return;
    const wasUp = before.phase === "up";
    const wasStable = wasUp && this.#now - before.upAt >= STABLE_MS;
    const isExpected = end.kind === "again" || end.kind === "restart";
    // A token that is refused although it is new fails like anything else.
    const isFailure = !wasStable && !isExpected && !(wasUp && end.kind === "token");
    const failures = wasStable ? 0 : before.failures + (isFailure ? 1 : 0);
    this.#set(rung, { failures, isRefused: end.kind === "refused" });
    this.#wait(rung, this.#delayMs(rung, end, failures));
    if (!wasUp) return;
    // What works is gone, so the better ones are due at once again.
    for (const better of betterThan(rung)) {
      const other = this.#rung(better);
      if (other.phase === "waiting" && !other.isRefused) {
        this.#wait(better, backoffMs(0, this.#random()));
      }
    }
  }

  #delayMs(rung: Rung, end: End, failures: number): number {
    const hint = end.retryAfterMs;
    if (end.kind === "refused") return Math.max(this.#probeMs(rung), hint ?? 0);
    if (end.kind === "restart" && hint !== null) return restartMs(hint);
    if (end.kind === "again") return 0;
    const isIdle = !this.#state.isWanted && failures >= FAILURES_OF_BLOCKED;
    if (isIdle || this.#worseIsUp(rung)) return Math.max(this.#probeMs(rung), hint ?? 0);
    // A first refusal of a token is followed by a renewal, at once.
    const ms = end.kind === "token" && failures <= 1 ? 0 : backoffMs(failures, this.#random());
    return Math.max(ms, hint ?? 0);
  }

  #wake(isOnline: boolean): void {
    this.#state = { ...this.#state, isOnline };
    for (const rung of RUNGS) {
      if (this.#rung(rung).phase === "up") this.#commands.push({ type: "check", rung });
    }
    this.#openWaiting();
  }

  #openWaiting(): void {
    for (const rung of RUNGS) {
      const { phase, isRefused } = this.#rung(rung);
      if (phase === "waiting" && !isRefused) this.#open(rung);
    }
  }

  /** Open and close what the state asks for, and report a change. */
  #settle(): void {
    let isTried = true;
    for (const rung of RUNGS) {
      const { phase } = this.#rung(rung);
      if (!isTried) this.#close(rung);
      else if (phase === "idle") this.#open(rung);
      const { phase: next, failures, isRefused } = this.#rung(rung);
      const isBlocked = failures >= FAILURES_OF_BLOCKED || isRefused;
      isTried &&= next !== "up" && isBlocked && this.#state.isWanted;
    }
    const transport = this.#transport();
    if (transport !== this.#state.reported) {
      this.#state = { ...this.#state, reported: transport };
      this.#commands.push({ type: "report", transport });
    }
  }

  #transport(): LiveTransport {
    const best = RUNGS.find((rung) => this.#rung(rung).phase === "up");
    if (best !== undefined) return best;
    if (!this.#state.isOnline) return "offline";
    // A worse way is closed while there is nothing to follow; that is no news to anybody.
    const { reported, isWanted } = this.#state;
    if (!isWanted && (reported === "sse" || reported === "polling")) return reported;
    const hasNoWay = RUNGS.every((rung) => this.#rung(rung).failures >= FAILURES_OF_BLOCKED);
    return hasNoWay ? "offline" : "connecting";
  }

  #open(rung: Rung): void {
    this.#set(rung, { phase: "opening" });
    this.#commands.push({ type: "open", rung });
  }

  #wait(rung: Rung, ms: number): void {
    this.#set(rung, { phase: "waiting" });
    this.#commands.push({ type: "wait", rung, ms });
  }

  #close(rung: Rung): void {
    const { phase, wasUp } = this.#rung(rung);
    if (phase === "idle") return;
    this.#set(rung, { ...IDLE, wasUp });
    this.#commands.push({ type: "close", rung });
  }

  #probeMs(rung: Rung): number {
    const { wasUp, failures, isRefused } = this.#rung(rung);
    const isSoon = wasUp && !isRefused && failures <= FAILURES_OF_BLOCKED;
    return isSoon ? SOON_MS : Math.round(PROBE_MS * (0.9 + this.#random() / 5));
  }

  #worseIsUp(rung: Rung): boolean {
    const at = RUNGS.indexOf(rung);
    return RUNGS.some((other, index) => index > at && this.#rung(other).phase === "up");
  }

  #rung(rung: Rung): RungState {
    return this.#state.rungs[rung];
  }

  #set(rung: Rung, changes: Partial<RungState>): void {
    const rungs = { ...this.#state.rungs, [rung]: { ...this.#rung(rung), ...changes } };
    this.#state = { ...this.#state, rungs };
  }
}

function betterThan(rung: Rung): readonly Rung[] {
  return RUNGS.slice(0, RUNGS.indexOf(rung));
}
