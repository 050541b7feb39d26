/** Updates by polling: what works through every proxy. */
import { readJobState } from "./jobState";
import {
  LOST,
  endOnce,
  type Attempt,
  type Feed,
  type Followed,
  type OpenTransport,
  type TransportContext,
} from "./transport";

const INTERVAL_MS = 1_500;
/** Nobody looks at a page in the background; the states are right when somebody does (`wake`). */
const HIDDEN_INTERVAL_MS = 10_000;
/** Answers that say "not now" in a row, after which the way counts as down. */
const MAX_BUSY = 3;

export interface PollingOptions {
  /** Which of the followed jobs are polled; all by default. */
  readonly selects?: (jobId: string, index: number) => boolean;
}

/**
 * Return how to poll the followed jobs, one request at a time, each job at most every 1.5 s. Jobs
 * that have ended are left alone until they are followed again.
 */
export function pollingTransport(
  context: TransportContext,
  options: PollingOptions = {},
): OpenTransport {
  return (followed, feed) => new Poller(context, options, followed, feed);
}

class Poller implements Attempt {
  readonly #context: TransportContext;
  readonly #selects: (jobId: string, index: number) => boolean;
  readonly #followed: Followed;
  readonly #feed: Feed & { close(): void };
  readonly #abort = new AbortController();
  readonly #etags = new Map<string, string>();
  #timer: number | null = null;
  #isRunning = false;
  #isDueAgain = false;
  #isUp = false;
  #busy = 0;

  constructor(context: TransportContext, options: PollingOptions, followed: Followed, feed: Feed) {
    this.#context = context;
    this.#selects = options.selects ?? (() => true);
    this.#followed = followed;
    this.#feed = endOnce(feed, () => {
      this.#abort.abort();
      this.#clearTimer();
    });
    this.#run();
  }

  follow(jobId: string): void {
    this.#etags.delete(jobId);
    this.wake();
  }

  unfollow(jobId: string): void {
    this.#etags.delete(jobId);
  }

  wake(): void {
    if (this.#isRunning) this.#isDueAgain = true;
    else this.#run();
  }

  stop(): void {
    this.#feed.close();
  }

  #run(): void {
    this.#clearTimer();
    this.#isRunning = true;
    this.#isDueAgain = false;
    const began = this.#context.environment.now();
    void this.#round().then((waitMs) => {
      this.#isRunning = false;
      if (this.#abort.signal.aborted) return;
      const { environment } = this.#context;
      const interval = environment.isHidden() ? HIDDEN_INTERVAL_MS : INTERVAL_MS;
      const rest = this.#isDueAgain ? 0 : interval - (environment.now() - began);
      this.#timer = environment.setTimer(
        () => {
          this.#run();
        },
        Math.max(rest, waitMs, 0),
      );
    });
  }

  /** Ask for each job once; return how long the server wants to be left alone. Milliseconds. */
  async #round(): Promise<number> {
    let token: string | null;
    try {
      token = await this.#context.token();
    } catch {
      this.#feed.onDown(LOST);
      return 0;
    }
    const ids = this.#followed.ids().filter((id, index) => this.#selects(id, index));
    for (const id of ids) {
      if (this.#abort.signal.aborted) return 0;
      if (this.#followed.hasEnded(id) && this.#etags.has(id)) continue;
      const waitMs = await this.#ask(id, token);
      if (waitMs > 0) return waitMs;
    }
    return 0;
  }

  async #ask(id: string, token: string | null): Promise<number> {
    const etag = this.#etags.get(id) ?? null;
    const answer = await readJobState(this.#context, id, token, etag, this.#abort.signal);
    switch (answer.kind) {
      case "state":
        this.#worked();
        if (answer.etag !== null) this.#etags.set(id, answer.etag);
        this.#feed.onSnapshot(id, answer.updates, null);
        return 0;
      case "same":
        this.#worked();
        return 0;
      case "gone":
        this.#worked();
        this.#feed.onGone(id);
        return 0;
      case "busy":
        this.#busy += 1;
        if (this.#busy >= MAX_BUSY) {
          this.#feed.onDown({ kind: "lost", retryAfterMs: answer.retryAfterMs });
        }
        return answer.retryAfterMs;
      case "token":
        this.#feed.onDown({ kind: "token", retryAfterMs: null });
        return 0;
      case "lost":
        this.#feed.onDown(LOST);
        return 0;
    }
  }

  #worked(): void {
    this.#busy = 0;
    if (this.#isUp) return;
    this.#isUp = true;
    this.#feed.onUp();
  }

  #clearTimer(): void {
    if (this.#timer !== null) this.#context.environment.clearTimer(this.#timer);
    this.#timer = null;
  }
}
