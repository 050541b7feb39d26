/** Parser of server-sent events (HTML standard, 9.2.6) for bodies that `fetch` reads. */

/** An event; `type` is `message` unless the stream names another. */
export interface StreamEvent {
  readonly type: string;
  readonly data: string;
  /** The newest id of the stream, also of an earlier event; empty if there is none. */
  readonly lastEventId: string;
}

export interface EventStreamHandlers {
  onEvent(event: StreamEvent): void;
  /** The server asks to come back after so many milliseconds. */
  onRetry(ms: number): void;
}

/** A line longer than this is an attack or a defect: the stream ends. Characters. */
const MAX_LINE = 4 * 1024 * 1024;

/**
 * Takes the bytes of a stream in pieces of any size. Lines end by LF, CR LF or CR; a piece may end
 * in the middle of a character or of a line end. An event without its blank line is not delivered.
 */
export class EventStreamParser {
  // It drops a byte order mark at the start by itself.
  readonly #decoder = new TextDecoder("utf-8");
  readonly #handlers: EventStreamHandlers;
  #rest = "";
  #endedWithCr = false;
  #type = "";
  #data: string[] = [];
  #lastEventId = "";
  #nextEventId = "";

  constructor(handlers: EventStreamHandlers) {
    this.#handlers = handlers;
  }

  /** @throws `RangeError` for a line that does not end. */
  push(piece: Uint8Array): void {
    let text = this.#decoder.decode(piece, { stream: true });
    if (text === "") return;
    // The second half of a CR LF that was cut.
    if (this.#endedWithCr && text.startsWith("\n")) text = text.slice(1);
    this.#endedWithCr = text === "" ? false : text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MAX_LINE)
      throw new RangeError("a line of the event stream is too long");
    for (const line of lines) this.#takeLine(line);
  }

  #takeLine(line: string): void {
    if (line === "") {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    switch (name) {
      case "event":
        this.#type = value;
        break;
      case "data":
        this.#data.push(value);
        break;
      case "id":
        if (!value.includes("\0")) this.#nextEventId = value;
        break;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.#handlers.onRetry(Number(value));
        break;
      default:
    }
  }

  #dispatch(): void {
    this.#lastEventId = this.#nextEventId;
    const data = this.#data;
    const type = this.#type;
    this.#data = [];
    this.#type = "";
    if (data.length === 0) return;
    this.#handlers.onEvent({
      type: type === "" ? "message" : type,
      data: data.join("\n"),
      lastEventId: this.#lastEventId,
    });
  }
}
