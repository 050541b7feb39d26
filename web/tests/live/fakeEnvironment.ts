/** A browser whose clock, sockets and answers the tests drive. */
import type { LiveEnvironment, LiveSocket } from "@/lib/websocket/transport";

interface Timer {
  readonly id: number;
  readonly at: number;
  readonly run: () => void;
}

/** Settle promises, also those that settle others. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await Promise.resolve();
}

export interface FakeFrame {
  readonly command: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The server's side of a WebSocket that speaks STOMP. */
export class FakeSocket implements LiveSocket {
  onclose: ((event: unknown) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  onmessage: ((event: unknown) => void) | null = null;
  onopen: ((event: unknown) => void) | null = null;
  readyState = 0;
  readonly sent: FakeFrame[] = [];
  readonly #listeners: (() => void)[] = [];
  /** Answers frames; by default CONNECT and receipts. */
  answer: (frame: FakeFrame) => void = (frame) => {
    this.answerAsServer(frame);
  };

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {}

  addEventListener(_type: "message", listener: () => void): void {
    this.#listeners.push(listener);
  }

  send(data: string | ArrayBuffer): void {
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    const [head = ""] = text.split("\n\n");
    const [command = "", ...lines] = head.split("\n");
    const headers = Object.fromEntries(
      lines.map((line) => {
        const at = line.indexOf(":");
        return [line.slice(0, at), line.slice(at + 1)];
      }),
    );
    const frame = { command, headers };
    this.sent.push(frame);
    // Never within the call, in which no browser delivers a message.
    queueMicrotask(() => {
      this.answer(frame);
    });
  }

  close(): void {
    this.readyState = 2;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.({});
  }

  receive(text: string): void {
    for (const listener of this.#listeners) listener();
    this.onmessage?.({ data: text });
  }

  frame(command: string, headers: Readonly<Record<string, string>>, body = ""): void {
    const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}`);
    this.receive(`${[command, ...lines].join("\n")}\n\n${body}\0`);
  }

  /** Deliver an update to a destination. */
  message(destination: string, kind: string, body: unknown): void {
    const subscription = this.subscriptionOf(destination);
    this.frame(
      "MESSAGE",
      { subscription, "message-id": "1", destination, kind },
      JSON.stringify(body),
    );
  }

  subscriptionOf(destination: string): string {
    const found = this.sent.find(
      (each) => each.command === "SUBSCRIBE" && each.headers["destination"] === destination,
    );
    return found?.headers["id"] ?? "none";
  }

  /** Destinations in order. */
  get destinations(): readonly (string | undefined)[] {
    return this.sent
      .filter((each) => each.command === "SUBSCRIBE")
      .map((each) => each.headers["destination"]);
  }

  shut(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason, wasClean: code !== 1006 });
  }

  answerAsServer(frame: FakeFrame): void {
    if (frame.command === "CONNECT") {
      this.frame("CONNECTED", { version: "1.2", "heart-beat": "10000,10000" });
    }
    const receipt = frame.headers["receipt"];
    if (receipt !== undefined) this.frame("RECEIPT", { "receipt-id": receipt });
  }
}

export class FakeEnvironment implements LiveEnvironment {
  time = 0;
  isPageHidden = false;
  isNetworkUp = true;
  readonly sockets: FakeSocket[] = [];
  readonly requests: { url: string; headers: Headers; signal: AbortSignal | null; at: number }[] =
    [];
  /** What `fetch` answers. */
  respond: (url: string, headers: Headers) => Promise<Response> = () =>
    Promise.reject(new TypeError("no network"));
  /** What a new socket does; refused by default. */
  onSocket: (socket: FakeSocket) => void = (socket) => {
    this.setTimer(() => {
      socket.shut(1006);
    }, 1);
  };
  #timers: Timer[] = [];
  #ids = 0;
  #wakers = new Set<() => void>();

  now(): number {
    return this.time;
  }

  random(): number {
    return 0.5;
  }

  setTimer(run: () => void, ms: number): number {
    this.#ids += 1;
    this.#timers.push({ id: this.#ids, at: this.time + ms, run });
    return this.#ids;
  }

  clearTimer(timer: number): void {
    this.#timers = this.#timers.filter((each) => each.id !== timer);
  }

  get timers(): number {
    return this.#timers.length;
  }

  fetch(url: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    const signal = init.signal ?? null;
    this.requests.push({ url, headers, signal, at: this.time });
    return this.respond(url, headers);
  }

  openSocket(url: string, protocol: string): FakeSocket {
    const socket = new FakeSocket(url, protocol);
    this.sockets.push(socket);
    this.onSocket(socket);
    return socket;
  }

  isHidden(): boolean {
    return this.isPageHidden;
  }

  isOnline(): boolean {
    return this.isNetworkUp;
  }

  onWake(run: () => void): () => void {
    this.#wakers.add(run);
    return () => this.#wakers.delete(run);
  }

  wake(): void {
    for (const run of this.#wakers) run();
  }

  get wakers(): number {
    return this.#wakers.size;
  }

  /** Let time pass; run what is due in order. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms;
    await settle();
    for (;;) {
      const next = this.#timers.filter((each) => each.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.time = Math.max(this.time, next.at);
      this.clearTimer(next.id);
      next.run();
      await settle();
    }
    this.time = end;
    await settle();
  }

  /** Let sockets open at once. */
  acceptSockets(): void {
    this.onSocket = (socket) => {
      this.setTimer(() => {
        socket.open();
      }, 1);
    };
  }
}

/** A stream whose pieces the test pushes. */
export function fakeStream(): {
  readonly response: Response;
  push(text: string): void;
  end(): void;
  fail(): void;
} {
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  const body = new ReadableStream<Uint8Array>({
    start(given) {
      controller = given;
    },
  });
  return {
    response: new Response(body, { headers: { "content-type": "text/event-stream" } }),
    push(text) {
      controller?.enqueue(new TextEncoder().encode(text));
    },
    end() {
      controller?.close();
    },
    fail() {
      controller?.error(new TypeError("broken"));
    },
  };
}
