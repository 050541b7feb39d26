/** Live updates by the best way that works: see `ladder.ts` for which, docs/live.md for how. */
import { browserEnvironment } from "./browserEnvironment";
import { FollowedJobs } from "./followedJobs";
import {
  INITIAL_LADDER,
  climb,
  type LadderCommand,
  type LadderEvent,
  type LadderState,
  type Rung,
} from "./ladder";
import { pollingTransport } from "./polling";
import { sseTransport } from "./sse";
import { stompTransport } from "./stomp";
import type { Attempt, Feed, LiveEnvironment, OpenTransport, TransportContext } from "./transport";
import type { LiveListener, LiveOptions, LiveUpdates } from "./types";
import { SessionEnded } from "@/lib/api/session";
import type { LiveTransport } from "@/stores/uploadTypes";

/** A connection that is exchanged, or comes back this fast, is no news. Milliseconds. */
const QUIET_MS = 1_000;
/** A token that takes longer is a failed attempt: another way may not need a new one. */
const TOKEN_MS = 10_000;

/**
 * Follow jobs until `stop`. It connects at once, so that the first job need not wait.
 *
 * The listener learns the transport at once, `connecting` at first. Everything stops by itself when
 * `options.token` rejects with `SessionEnded`; a rejection by anything else is a failed attempt.
 *
 * @param environment - of tests.
 */
export function createLiveUpdates(
  options: LiveOptions,
  environment: LiveEnvironment = browserEnvironment(),
): LiveUpdates {
  return new LiveClient(options, environment);
}

class LiveClient implements LiveUpdates {
  readonly #listener: LiveListener;
  readonly #environment: LiveEnvironment;
  readonly #jobs = new FollowedJobs();
  readonly #transports: Readonly<Record<Rung, OpenTransport>>;
  readonly #attempts = new Map<Rung, Attempt>();
  readonly #timers = new Map<Rung, number>();
  readonly #stopWaking: () => void;
  #ladder: LadderState = INITIAL_LADDER;
  readonly #events: LadderEvent[] = [];
  #isClimbing = false;
  #mustRenew = false;
  #token: Promise<string | null> | null = null;
  #transport: LiveTransport | null = null;
  #quiet: number | null = null;

  constructor(options: LiveOptions, environment: LiveEnvironment) {
    this.#listener = options.listener;
    this.#environment = environment;
    const context: TransportContext = {
      baseUrl: options.baseUrl.replace(/\/+$/, ""),
      environment,
      token: () => this.#currentToken(options),
    };
    this.#transports = {
      stomp: stompTransport(context),
      sse: sseTransport(context),
      polling: pollingTransport(context),
    };
    this.#stopWaking = environment.onWake(() => {
      this.wake();
    });
    this.#dispatch({ type: "start", isOnline: environment.isOnline() });
  }

  follow(jobId: string): void {
    this.#jobs.add(jobId);
    for (const attempt of this.#attempts.values()) attempt.follow(jobId);
    this.#dispatch({ type: "wanted", isWanted: true });
  }

  unfollow(jobId: string): void {
    if (!this.#jobs.remove(jobId)) return;
    for (const attempt of this.#attempts.values()) attempt.unfollow(jobId);
    this.#dispatch({ type: "wanted", isWanted: this.#jobs.ids().length > 0 });
  }

  wake(): void {
    this.#dispatch({ type: "wake", isOnline: this.#environment.isOnline() });
  }

  stop(): void {
    this.#stopWaking();
    this.#clearQuiet();
    this.#dispatch({ type: "stop" });
  }

  #end(): void {
    this.stop();
    this.#tell("offline");
  }

  /** One renewal for all ways that were refused with the same token. */
  async #currentToken(options: LiveOptions): Promise<string | null> {
    const renew = this.#mustRenew;
    this.#mustRenew = false;
    if (renew || this.#token === null) {
      const token = this.#inTime(renew ? options.token({ renew: true }) : options.token());
      this.#token = token;
      const forget = (): void => {
        if (this.#token === token) this.#token = null;
      };
      token.then(forget, (error: unknown) => {
        forget();
        if (error instanceof SessionEnded) this.#end();
      });
    }
    return this.#token;
  }

  #inTime<Value>(wanted: Promise<Value>): Promise<Value> {
    return new Promise((resolve, reject: (error: unknown) => void) => {
      const timer = this.#environment.setTimer(() => {
        reject(new Error("no token in time"));
      }, TOKEN_MS);
      wanted.then(resolve, reject).finally(() => {
        this.#environment.clearTimer(timer);
      });
    });
  }

  /** Events that come while one is handled are handled after it. */
  #dispatch(event: LadderEvent): void {
    this.#events.push(event);
    if (this.#isClimbing) return;
    this.#isClimbing = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        const environment = this.#environment;
        const step = climb(this.#ladder, next, environment.now(), () => environment.random());
        this.#ladder = step.state;
        for (const command of step.commands) this.#obey(command);
      }
    } finally {
      this.#isClimbing = false;
    }
  }

  #obey(command: LadderCommand): void {
    if (command.type === "report") {
      this.#report(command.transport);
      return;
    }
    const { rung } = command;
    if (command.type === "check") {
      this.#attempts.get(rung)?.wake();
      return;
    }
    this.#clearTimer(rung);
    this.#attempts.get(rung)?.stop();
    this.#attempts.delete(rung);
    if (command.type === "open") {
      this.#attempts.set(rung, this.#transports[rung](this.#jobs, this.#feedOf(rung)));
    } else if (command.type === "wait") {
      const due = (): void => {
        this.#dispatch({ type: "due", rung });
      };
      this.#timers.set(rung, this.#environment.setTimer(due, command.ms));
    }
  }

  #feedOf(rung: Rung): Feed {
    return {
      onUp: () => {
        this.#dispatch({ type: "up", rung });
      },
      onDown: (end) => {
        if (end.kind === "token") this.#mustRenew = true;
        this.#dispatch({ type: "down", rung, end });
      },
      onSnapshot: (jobId, updates, cursor) => {
        if (this.#jobs.takeSnapshot(jobId, updates, cursor)) {
          this.#listener.onSnapshot(jobId, updates, true);
        }
      },
      onChange: (update) => {
        if (this.#jobs.takeChange(update)) this.#listener.onChange(update);
      },
      onGone: (jobId) => {
        if (!this.#jobs.has(jobId)) return;
        this.unfollow(jobId);
        this.#listener.onGone(jobId);
      },
    };
  }

  #report(transport: LiveTransport): void {
    this.#clearQuiet();
    const isBreak = transport === "connecting" && this.#transport !== null;
    if (!isBreak) {
      this.#tell(transport);
      return;
    }
    this.#quiet = this.#environment.setTimer(() => {
      this.#tell(transport);
    }, QUIET_MS);
  }

  #tell(transport: LiveTransport): void {
    if (transport === this.#transport) return;
    this.#transport = transport;
    this.#listener.onTransport(transport);
  }

  #clearQuiet(): void {
    if (this.#quiet !== null) this.#environment.clearTimer(this.#quiet);
    this.#quiet = null;
  }

  #clearTimer(rung: Rung): void {
    const timer = this.#timers.get(rung);
    if (timer !== undefined) this.#environment.clearTimer(timer);
    this.#timers.delete(rung);
  }
}
