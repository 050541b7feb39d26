import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventStreamParser, type StreamEvent } from "./eventStream";

function parsed(pieces: readonly Uint8Array[]): { events: StreamEvent[]; retries: number[] } {
  const events: StreamEvent[] = [];
  const retries: number[] = [];
  const parser = new EventStreamParser({
    onEvent: (event) => events.push(event),
    onRetry: (ms) => retries.push(ms),
  });
  for (const piece of pieces) parser.push(piece);
  return { events, retries };
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

const lineEnd = fc.constantFrom("\n", "\r\n", "\r");
const text = fc.string({ unit: "binary" }).map((given) => given.replaceAll(/[\r\n\0]/g, "·"));
const events = fc.array(
  fc.record({
    type: fc.constantFrom("change", "snapshot", "message"),
    lines: fc.array(text, { minLength: 1, maxLength: 3 }),
    id: fc.option(fc.nat().map(String)),
  }),
  { maxLength: 6 },
);

describe("event stream", () => {
  it("delivers the same events however the stream is cut", () => {
    fc.assert(
      fc.property(events, lineEnd, fc.array(fc.nat(400), { maxLength: 40 }), (given, end, cuts) => {
        const lines = given.flatMap(({ type, lines: data, id }) => [
          ": comment",
          ...(id === null ? [] : [`id: ${id}`]),
          ...(type === "message" ? [] : [`event: ${type}`]),
          ...data.map((line) => `data: ${line}`),
          "",
        ]);
        const whole = bytes(lines.map((line) => line + end).join(""));
        const at = [0, ...[...cuts].sort((a, b) => a - b), whole.length];
        const pieces = at.slice(1).map((stop, index) => whole.subarray(at[index], stop));
        const ids = given.map(
          (_, index) => given.slice(0, index + 1).findLast((each) => each.id !== null)?.id ?? "",
        );
        expect(parsed(pieces).events).toEqual(
          given.map(({ type, lines: data }, index) => ({
            type,
            data: data.join("\n"),
            lastEventId: ids[index],
          })),
        );
      }),
    );
  });

  it("takes one byte at a time, also of CR LF and of characters", () => {
    const whole = bytes("\uFEFFevent: change\r\ndata: größe 📷\r\nid: 7\r\n\r\ndata: x\r\r");
    const pieces = [...whole].map((byte) => Uint8Array.of(byte));
    expect(parsed(pieces).events).toEqual([
      { type: "change", data: "größe 📷", lastEventId: "7" },
      { type: "message", data: "x", lastEventId: "7" },
    ]);
  });

  it("drops an event that is cut off, and one without data", () => {
    expect(parsed([bytes("id: 3\nevent: change\n\ndata: half")]).events).toEqual([]);
  });

  it("reads fields as the standard says", () => {
    const stream = "data:a\ndata\ndata:  b\nunknown: x\nid: 1\0\nretry: 2000\nretry: 2s\n\n";
    const { events: found, retries } = parsed([bytes(stream)]);
    expect(found).toEqual([{ type: "message", data: "a\n\n b", lastEventId: "" }]);
    expect(retries).toEqual([2000]);
  });

  it("ends a stream whose line does not end", () => {
    const parser = new EventStreamParser({ onEvent: () => undefined, onRetry: () => undefined });
    const push = (): void => {
      for (let piece = 0; piece < 100; piece += 1) parser.push(bytes("x".repeat(65_536)));
    };
    expect(push).toThrow(RangeError);
  });
});
