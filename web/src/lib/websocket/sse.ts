/** Updates by server-sent events, read with `fetch`: `EventSource` cannot send a token. */
import { EventStreamParser, type StreamEvent } from "./eventStream";
import { retryAfterMs } from "./jobState";
import {
  isTokenReason,
  parseJson,
  readReason,
  readSnapshotPiece,
  readTokenNotice,
  readUpdate,
} from "./messages";
import { pollingTransport } from "./polling";
import { renewalDelayMs } from "./tokenRenewal";
import {
  LOST,
  endOnce,
  type Attempt,
  type End,
  type Feed,
  type Followed,
  type OpenTransport,
  type TransportContext,
} from "./transport";
import type { ProgressUpdate } from "./types";

/** Browsers open six connections to an origin by HTTP/1.1; four are for requests and the pages of
 * other tabs. Further jobs are polled. */
const MAX_STREAMS = 2;
/** A proxy that holds the stream back shows in nothing but silence. */
const FIRST_PIECE_MS = 4_000;
/** Two comments of 15 s, and some delay. */
const SILENCE_MS = 35_000;
const CHECK_MS = 2_000;
/** Of a page that was asleep: one comment is missing. */
const STALE_MS = 17_000;

/** Return how to follow jobs by streams. */
export function sseTransport(context: TransportContext): OpenTransport {
  return (followed, feed) => new SseAttempt(context, followed, feed);
}

class SseAttempt implements Attempt {
  readonly #context: TransportContext;
  readonly #followed: Followed;
  readonly #feed: Feed & { close(): void };
  readonly #streams = new Map<string, JobStream>();
  #polling: Attempt | null = null;
  #token: string | null = null;
  #hasToken = false;
  #isUp = false;
  #isClosed = false;

  constructor(context: TransportContext, followed: Followed, feed: Feed) {
    this.#context = context;
    this.#followed = followed;
    this.#feed = endOnce(feed, () => {
      this.#isClosed = true;
      for (const stream of this.#streams.values()) stream.close();
      this.#polling?.stop();
    });
    context.token().then(
      (token) => {
        this.#token = token;
        this.#hasToken = true;
        this.#assign();
        if (this.#streams.size === 0) this.#up();
      },
      () => {
        this.#feed.onDown(LOST);
      },
    );
  }

  follow(jobId: string): void {
    this.#assign();
    this.#polling?.follow(jobId);
  }

  unfollow(jobId: string): void {
    this.#polling?.unfollow(jobId);
    this.#assign();
  }

  wake(): void {
    for (const stream of this.#streams.values()) stream.wake();
    this.#polling?.wake();
  }

  stop(): void {
    this.#feed.close();
  }

  /** Give the streams to the first jobs that have not ended; poll the others. */
  #assign(): void {
    if (this.#isClosed || !this.#hasToken) return;
    const open = this.#followed.ids().filter((id) => !this.#followed.hasEnded(id));
    const streamed = new Set(open.slice(0, MAX_STREAMS));
    for (const [id, stream] of this.#streams) {
      if (streamed.has(id)) continue;
      stream.close();
      this.#streams.delete(id);
    }
    for (const id of streamed) {
      if (!this.#streams.has(id)) this.#streams.set(id, this.#openStream(id));
    }
    if (open.length > MAX_STREAMS) this.#polling ??= this.#poll();
    else {
      this.#polling?.stop();
      this.#polling = null;
    }
  }

  #openStream(jobId: string): JobStream {
    return new JobStream(this.#context, jobId, this.#token, this.#followed.cursor(jobId), {
      onUp: () => {
        this.#up();
      },
      onDown: (end) => {
        this.#feed.onDown(end);
      },
      onSnapshot: (id, updates, cursor) => {
        this.#feed.onSnapshot(id, updates, cursor);
        this.#afterUpdate(id);
      },
      onChange: (update) => {
        this.#feed.onChange(update);
        if (update.photoId === null) this.#afterUpdate(update.jobId);
      },
      onGone: (id) => {
        this.#feed.onGone(id);
      },
    });
  }

  /** An ended job gives its stream to the next. */
  #afterUpdate(jobId: string): void {
    if (this.#followed.hasEnded(jobId)) this.#assign();
  }

  #poll(): Attempt {
    const open = pollingTransport(this.#context, { selects: (id) => !this.#streams.has(id) });
    return open(this.#followed, {
      onUp: () => undefined,
      onDown: (end) => {
        this.#feed.onDown(end);
      },
      onSnapshot: (id, updates, cursor) => {
        // Its stream may have begun meanwhile, and knows better.
        if (!this.#streams.has(id)) this.#feed.onSnapshot(id, updates, cursor);
      },
      onChange: (update) => {
        this.#feed.onChange(update);
      },
      onGone: (id) => {
        this.#feed.onGone(id);
      },
    });
  }

  #up(): void {
    if (this.#isUp) return;
    this.#isUp = true;
    this.#feed.onUp();
  }
}

/** The stream of one job. */
class JobStream {
  readonly #context: TransportContext;
  readonly #jobId: string;
  readonly #feed: Feed & { close(): void };
  readonly #abort = new AbortController();
  #pieces: ProgressUpdate[] = [];
  #heardAt: number;
  #hasBegun = false;
  #retryMs: number | null = null;
  #watch: number | null = null;
  #renewal: number | null = null;

  constructor(
    context: TransportContext,
    jobId: string,
    token: string | null,
    cursor: number | null,
    feed: Feed,
  ) {
    this.#context = context;
    this.#jobId = jobId;
    this.#heardAt = context.environment.now();
    this.#feed = endOnce(feed, () => {
      this.#abort.abort();
      for (const timer of [this.#watch, this.#renewal]) {
        if (timer !== null) context.environment.clearTimer(timer);
      }
    });
    this.#watchSilence();
    this.#read(token, cursor).catch(() => {
      this.#feed.onDown(this.#end());
    });
  }

  close(): void {
    this.#feed.close();
  }

  wake(): void {
    if (this.#silentMs() > STALE_MS) this.#feed.onDown(LOST);
  }

  async #read(token: string | null, cursor: number | null): Promise<void> {
    const headers = new Headers({ accept: "text/event-stream" });
    if (token !== null) headers.set("authorization", `Bearer ${token}`);
    if (cursor !== null) headers.set("last-event-id", String(cursor));
    const url = `${this.#context.baseUrl}/queries/upload-jobs/${encodeURIComponent(this.#jobId)}/events`;
    const signal = this.#abort.signal;
    const response = await this.#context.environment.fetch(url, {
      headers,
      signal,
      cache: "no-store",
    });
    const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
    if (response.status !== 200 || isStream !== true || response.body === null) {
      await this.#refused(response);
      return;
    }
    const parser = new EventStreamParser({
      onEvent: (event) => {
        this.#take(event);
      },
      onRetry: (ms) => {
        // The first one is the default of a stream that is cut; a later one that of a restart.
        this.#retryMs = this.#hasBegun ? ms : null;
        this.#hasBegun = true;
      },
    });
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      this.#heardAt = this.#context.environment.now();
      parser.push(value);
      this.#feed.onUp();
    }
    this.#feed.onDown(this.#end());
  }

  async #refused(response: Response): Promise<void> {
    const reason = readReason(parseJson(await response.text()));
    if (response.status === 404 && reason === "JOB_NOT_FOUND") {
      this.#feed.onGone(this.#jobId);
      return;
    }
    this.#feed.onDown(this.#refusal(response, reason));
  }

  #refusal(response: Response, reason: string | null): End {
    const hint = retryAfterMs(response);
    if (response.status === 401 || isTokenReason(reason)) {
      return { kind: "token", retryAfterMs: null };
    }
    const mayPass = response.status === 429 || response.status >= 500;
    return { kind: mayPass ? "lost" : "refused", retryAfterMs: hint };
  }

  #take(event: StreamEvent): void {
    const data = parseJson(event.data);
    switch (event.type) {
      case "snapshot":
        this.#takeSnapshot(data, event.lastEventId);
        break;
      case "change": {
        const update = readUpdate(data);
        if (update !== null) this.#feed.onChange(update);
        break;
      }
      case "session": {
        const secondsLeft = readTokenNotice(data);
        if (secondsLeft !== null) this.#renewIn(renewalDelayMs(secondsLeft));
        break;
      }
      case "error":
        this.#feed.onDown(
          isTokenReason(readReason(data)) ? { kind: "token", retryAfterMs: null } : LOST,
        );
        break;
      default:
    }
  }

  #takeSnapshot(data: unknown, id: string): void {
    const piece = readSnapshotPiece(data);
    if (piece === null) return;
    for (const update of piece.updates) this.#pieces.push(update);
    if (!piece.complete) return;
    const updates = this.#pieces;
    this.#pieces = [];
    const cursor = Number(id);
    this.#feed.onSnapshot(this.#jobId, updates, cursor > 0 ? cursor : null);
  }

  #renewIn(ms: number): void {
    this.#renewal ??= this.#context.environment.setTimer(() => {
      this.#feed.onDown({ kind: "token", retryAfterMs: null });
    }, ms);
  }

  #end(): End {
    return this.#retryMs === null ? LOST : { kind: "restart", retryAfterMs: this.#retryMs };
  }

  #watchSilence(): void {
    this.#watch = this.#context.environment.setTimer(() => {
      if (this.#silentMs() > (this.#hasBegun ? SILENCE_MS : FIRST_PIECE_MS)) {
        this.#feed.onDown(LOST);
      } else {
        this.#watchSilence();
      }
    }, CHECK_MS);
  }

  #silentMs(): number {
    return this.#context.environment.now() - this.#heardAt;
  }
}
