/** Updates by STOMP over one WebSocket for all jobs (docs/live.md). */
import {
  Client,
  StompHeaders,
  Versions,
  type IFrame,
  type IMessage,
  type StompSubscription,
} from "@stomp/stompjs";
import { readJobState } from "./jobState";
import { isTokenReason, parseJson, readTokenNotice, readUpdate } from "./messages";
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

/** From the attempt to CONNECTED. */
const CONNECT_MS = 2_500;
/** A session takes 50 subscriptions; one is for notices, one for a probe. */
const MAX_JOB_SUBSCRIPTIONS = 48;
const BEAT_MS = 10_000;
/** A beat of the server, and some delay. */
const SILENCE_MS = 13_000;
const CHECK_MS = 2_000;
const PROBE_MS = 2_500;

const USER_QUEUE = "/user/queue/progress";
const SESSION_QUEUE = "/user/queue/session";

/** Return how to follow jobs by STOMP. */
export function stompTransport(context: TransportContext): OpenTransport {
  return (followed, feed) => new StompAttempt(context, followed, feed);
}

/**
 * What to do after a WebSocket was closed.
 *
 * @param reason - of the close frame: a stable word, perhaps `retry-after-ms=NUMBER`.
 * @param errorReason - of the ERROR frame before it.
 */
export function endOfClose(code: number, reason: string, errorReason: string | null): End {
  const hint = /(?:^|\s)retry-after-ms=([0-9]{1,9})/.exec(reason)?.[1];
  const retryAfterMs = hint === undefined ? null : Number(hint);
  const word = errorReason ?? reason.split(" ")[0] ?? null;
  switch (code) {
    case 4401:
      return { kind: "token", retryAfterMs: null };
    case 1012:
      return { kind: "restart", retryAfterMs };
    case 1008:
      if (isTokenReason(word)) return { kind: "token", retryAfterMs: null };
      return { kind: "refused", retryAfterMs };
    case 1002:
    case 1009:
      return { kind: "refused", retryAfterMs };
    default:
      return { kind: "lost", retryAfterMs };
  }
}

/** Return the URL of the WebSocket beside an HTTP base URL. */
export function socketUrl(baseUrl: string): string {
  return `${baseUrl.replace(/^http/, "ws")}/ws`;
}

class StompAttempt implements Attempt {
  readonly #context: TransportContext;
  readonly #followed: Followed;
  readonly #feed: Feed & { close(): void };
  readonly #subscriptions = new Map<string, StompSubscription>();
  readonly #snapshots = new Map<string, ProgressUpdate[]>();
  readonly #receipts = new Map<string, string>();
  readonly #reads = new AbortController();
  #client: Client | null = null;
  #token: string | null = null;
  #ofUser = false;
  #toRead: string[] = [];
  #isReading = false;
  #errorReason: string | null = null;
  #goneJob: string | null = null;
  #heardAt: number;
  #probe: StompSubscription | null = null;
  #receiptCount = 0;
  #isClosed = false;
  readonly #timers = new Set<number>();

  constructor(context: TransportContext, followed: Followed, feed: Feed) {
    this.#context = context;
    this.#followed = followed;
    this.#heardAt = context.environment.now();
    this.#feed = endOnce(feed, () => {
      this.#dispose();
    });
    context.token().then(
      (token) => {
        if (!this.#isClosed) this.#connect(token);
      },
      () => {
        this.#feed.onDown(LOST);
      },
    );
  }

  follow(jobId: string): void {
    if (this.#client?.connected !== true) return;
    if (this.#ofUser) this.#read([jobId]);
    else if (this.#subscriptions.size >= MAX_JOB_SUBSCRIPTIONS) {
      // Too many for single subscriptions: come back with that of the user.
      this.#feed.onDown({ kind: "again", retryAfterMs: null });
    } else this.#subscribe(jobId);
  }

  unfollow(jobId: string): void {
    this.#snapshots.delete(jobId);
    this.#subscriptions.get(jobId)?.unsubscribe();
    this.#subscriptions.delete(jobId);
  }

  wake(): void {
    if (this.#client?.connected !== true || this.#probe !== null) return;
    if (this.#silentMs() > SILENCE_MS) {
      this.#feed.onDown(LOST);
      return;
    }
    // A socket of a network that has gone looks open: only an answer proves that it lives.
    const askedAt = this.#context.environment.now();
    const receipt = this.#nextReceipt();
    this.#client.watchForReceipt(receipt, () => {
      this.#probe?.unsubscribe();
      this.#probe = null;
    });
    this.#probe = this.#client.subscribe(SESSION_QUEUE, () => undefined, headersOf({ receipt }));
    this.#after(PROBE_MS, () => {
      if (this.#heardAt < askedAt) this.#feed.onDown(LOST);
    });
  }

  stop(): void {
    this.#feed.close();
  }

  #connect(token: string | null): void {
    this.#token = token;
    const { environment, baseUrl } = this.#context;
    const client = new Client();
    client.webSocketFactory = () => {
      const socket = environment.openSocket(socketUrl(baseUrl), "v12.stomp");
      socket.addEventListener("message", () => {
        this.#heardAt = environment.now();
      });
      return socket;
    };
    client.stompVersions = new Versions([Versions.V1_2]);
    client.connectHeaders = headersOf(token === null ? {} : { Authorization: `Bearer ${token}` });
    // The ladder decides when to come back, and to what.
    client.reconnectDelay = 0;
    client.heartbeatIncoming = BEAT_MS;
    // None: browsers slow down the timers of hidden pages to one a minute, and the server would
    // end the session. A worker of stompjs comes from a blob, which the policy of our pages
    // forbids. The server finds dead peers by its own pings, which browsers answer by themselves.
    client.heartbeatOutgoing = 0;
    // A server that is frozen would keep the socket in CLOSING.
    client.discardWebsocketOnCommFailure = true;
    client.onConnect = () => {
      this.#connected();
    };
    client.onStompError = (frame) => {
      this.#failed(frame);
    };
    client.onWebSocketClose = (event: CloseEvent) => {
      this.#closed(event);
    };
    this.#client = client;
    this.#after(CONNECT_MS, () => {
      if (!client.connected) this.#feed.onDown(LOST);
    });
    client.activate();
  }

  #connected(): void {
    const client = this.#client;
    if (client === null || this.#isClosed) return;
    this.#heardAt = this.#context.environment.now();
    this.#watchSilence();
    client.subscribe(SESSION_QUEUE, (message) => {
      const secondsLeft = readTokenNotice(parseJson(message.body));
      if (secondsLeft === null) return;
      this.#after(renewalDelayMs(secondsLeft), () => {
        this.#feed.onDown({ kind: "token", retryAfterMs: null });
      });
    });
    this.#feed.onUp();
    const ids = this.#followed.ids();
    this.#ofUser = ids.length > MAX_JOB_SUBSCRIPTIONS;
    if (this.#ofUser) this.#subscribeUser(client);
    else for (const id of ids) this.#subscribe(id);
  }

  #subscribe(jobId: string): void {
    const client = this.#client;
    if (client === null || this.#subscriptions.has(jobId)) return;
    const cursor = this.#followed.cursor(jobId);
    const receipt = this.#nextReceipt();
    this.#receipts.set(receipt, jobId);
    client.watchForReceipt(receipt, () => {
      this.#receipts.delete(receipt);
    });
    const headers = headersOf({ receipt, ...(cursor === null ? {} : { after: String(cursor) }) });
    const destination = `/topic/job/${jobId}`;
    const take = (message: IMessage): void => {
      this.#take(jobId, message);
    };
    this.#subscriptions.set(jobId, client.subscribe(destination, take, headers));
  }

  #take(jobId: string, message: IMessage): void {
    const update = readUpdate(parseJson(message.body));
    if (update === null) return;
    if (message.headers["kind"] !== "snapshot") {
      this.#feed.onChange(update);
      return;
    }
    const updates = this.#snapshots.get(jobId) ?? [];
    updates.push(update);
    this.#snapshots.set(jobId, updates);
    // The last message of a snapshot, the job itself, has the sequence to resume after.
    if (update.sequence === 0 && update.photoId !== null) return;
    this.#snapshots.delete(jobId);
    this.#feed.onSnapshot(jobId, updates, update.sequence > 0 ? update.sequence : null);
  }

  /** One subscription for all jobs. Its snapshot has no photos, so they are read. */
  #subscribeUser(client: Client): void {
    client.subscribe(USER_QUEUE, (message) => {
      const update = readUpdate(parseJson(message.body));
      if (update === null) return;
      if (message.headers["kind"] !== "snapshot") this.#feed.onChange(update);
      else if (update.sequence > 0) this.#read(this.#followed.ids());
    });
    this.#read(this.#followed.ids());
  }

  /** Read states one after the other. */
  #read(jobIds: readonly string[]): void {
    this.#toRead = [...new Set([...this.#toRead, ...jobIds])];
    if (this.#isReading) return;
    this.#isReading = true;
    void this.#readAll().finally(() => {
      this.#isReading = false;
    });
  }

  async #readAll(): Promise<void> {
    for (let id = this.#toRead.shift(); id !== undefined; id = this.#toRead.shift()) {
      const answer = await readJobState(this.#context, id, this.#token, null, this.#reads.signal);
      if (this.#isClosed) return;
      if (answer.kind === "state") this.#feed.onSnapshot(id, answer.updates, null);
      else if (answer.kind === "gone") this.#feed.onGone(id);
      else if (answer.kind === "busy") await this.#pause(answer.retryAfterMs, id);
      else {
        this.#feed.onDown(answer.kind === "token" ? { kind: "token", retryAfterMs: null } : LOST);
        return;
      }
    }
  }

  async #pause(ms: number, id: string): Promise<void> {
    this.#toRead.push(id);
    await new Promise<void>((resolve) => {
      this.#after(ms, resolve);
    });
  }

  #failed(frame: IFrame): void {
    this.#errorReason = frame.headers["message"] ?? null;
    if (this.#errorReason !== "JOB_NOT_FOUND") return;
    this.#goneJob = this.#receipts.get(frame.headers["receipt-id"] ?? "") ?? null;
  }

  #closed(event: CloseEvent): void {
    const gone = this.#goneJob;
    if (gone === null) {
      this.#feed.onDown(endOfClose(event.code, event.reason, this.#errorReason));
      return;
    }
    // The session ended because of one job; without it the others go on.
    this.#feed.onGone(gone);
    this.#feed.onDown({ kind: "again", retryAfterMs: null });
  }

  #watchSilence(): void {
    this.#after(CHECK_MS, () => {
      if (this.#silentMs() > SILENCE_MS) this.#feed.onDown(LOST);
      else this.#watchSilence();
    });
  }

  #silentMs(): number {
    return this.#context.environment.now() - this.#heardAt;
  }

  #nextReceipt(): string {
    this.#receiptCount += 1;
    return `r${this.#receiptCount}`;
  }

  #after(ms: number, run: () => void): void {
    const timer = this.#context.environment.setTimer(() => {
      this.#timers.delete(timer);
      if (!this.#isClosed) run();
    }, ms);
    this.#timers.add(timer);
  }

  #dispose(): void {
    this.#isClosed = true;
    this.#reads.abort();
    for (const timer of this.#timers) this.#context.environment.clearTimer(timer);
    this.#timers.clear();
    // Discarded without a goodbye: it ends at once for us, and the server sees the close.
    void this.#client?.deactivate({ force: true });
    this.#client = null;
  }
}

function headersOf(members: Readonly<Record<string, string>>): StompHeaders {
  return Object.assign(new StompHeaders(), members);
}
