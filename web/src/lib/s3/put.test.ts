// @vitest-environment node
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { createChecksums } from "./checksums";
import { crc32cOf, crc32cText, updateCrc32c } from "./crc32c";
import { parseNumbers, planParts, rangeOf, sizeOf } from "./parts";
import { STALL_MS, StoreError, kindOf, put, reasonOf } from "./put";
import { isUsable, putRepeatedly } from "./repeatedPut";

const signal = new AbortController().signal;
const text = new TextEncoder();

function bytesOf(size: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: size }, (_, index) => (index * 7) % 251);
}

describe("crc32c", () => {
  test.each([
    ["", "00000000"],
    ["123456789", "e3069283"],
    ["The quick brown fox jumps over the lazy dog", "22620404"],
  ])("of %j", (input, expected) => {
    expect(crc32cText(updateCrc32c(0, text.encode(input)))).toBe(expected);
  });

  test("the tables say what bit by bit says, in any pieces", () => {
    const bitwise = (bytes: Uint8Array) => {
      let crc = 0xffffffff;
      for (const byte of bytes) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
      }
      return ~crc >>> 0;
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, cut) => {
        const first = updateCrc32c(0, bytes.subarray(0, cut));
        expect(updateCrc32c(first, bytes.subarray(cut))).toBe(bitwise(bytes));
      }),
    );
  });

  test("of a blob, block by block, with none of it kept", async () => {
    const bytes = bytesOf(1_300_000);
    expect(await crc32cOf(new Blob([bytes]))).toBe(updateCrc32c(0, bytes));
  });

  test("without a worker, and after it broke", async () => {
    const blob = new Blob(["123456789"]);
    const none = createChecksums(() => {
      throw new Error("no workers");
    });
    expect(await none.crc32c(blob)).toBe(0xe3069283);
    const broken = {
      postMessage: () => {
        queueMicrotask(() => broken.onerror?.(new Event("error") as ErrorEvent));
      },
      terminate: vi.fn(),
      onmessage: null,
      onerror: null as ((event: ErrorEvent) => void) | null,
    };
    const checksums = createChecksums(() => broken);
    expect(await checksums.crc32c(blob)).toBe(0xe3069283);
    expect(broken.terminate).toHaveBeenCalled();
    expect(await checksums.crc32c(blob)).toBe(0xe3069283);
  });
});

describe("parts", () => {
  test("cover the file without gaps, none of them empty", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.integer({ min: 1000, max: 1e5 }),
        (size, part) => {
          const plan = planParts(size, part);
          let at = 0;
          for (let number = 1; number <= plan.count; number += 1) {
            const [start, end] = rangeOf(plan, number);
            expect(start).toBe(at);
            expect(end).toBeGreaterThan(start);
            expect(sizeOf(plan, number)).toBeLessThanOrEqual(part);
            at = end;
          }
          expect(at).toBe(size);
        },
      ),
    );
  });

  test("numbers of the gateway, and only those", () => {
    const plan = planParts(100, 10);
    expect(parseNumbers("1-3,7", plan)).toEqual([1, 2, 3, 7]);
    expect(parseNumbers("10", plan)).toEqual([10]);
    for (const wrong of [undefined, "", "0", "11", "3-1", "1,", "a", "1-", "1".repeat(256)]) {
      expect(parseNumbers(wrong, plan)).toBeNull();
    }
  });
});

describe("put", () => {
  class FakeRequest {
    static last: FakeRequest;
    readonly upload: { onprogress: ((event: { loaded: number }) => void) | null } = {
      onprogress: null,
    };
    readonly headers = new Map<string, string>();
    onload: (() => void) | null = null;
    onerror: (() => void) | null = null;
    onabort: (() => void) | null = null;
    status = 0;
    responseText = "";
    responseHeaders = new Map<string, string>();
    sent: Blob | null = null;
    constructor() {
      FakeRequest.last = this;
    }
    open() {
      /* the URL does not matter */
    }
    setRequestHeader(name: string, value: string) {
      this.headers.set(name, value);
    }
    getResponseHeader(name: string) {
      return this.responseHeaders.get(name) ?? null;
    }
    send(body: Blob) {
      this.sent = body;
    }
    abort() {
      this.onabort?.();
    }
    answer(status: number, body = "") {
      this.status = status;
      this.responseText = body;
      this.onload?.();
    }
  }
  const start = (
    body: Blob,
    more: { signal?: AbortSignal; onProgress?: (n: number) => void } = {},
  ) =>
    put({
      url: "https://store.test/",
      headers: { "content-type": "image/jpeg", "Content-Length": "3" },
      body,
      signal: more.signal ?? signal,
      onProgress: more.onProgress ?? (() => undefined),
      newRequest: () => new FakeRequest() as unknown as XMLHttpRequest,
    });

  test("sends the signed headers but the length, and tells its progress", async () => {
    const progress: number[] = [];
    const done = start(new Blob(["abc"]), { onProgress: (bytes) => progress.push(bytes) });
    const { last } = FakeRequest;
    last.upload.onprogress?.({ loaded: 2 });
    last.upload.onprogress?.({ loaded: 9 });
    last.answer(200);
    await done;
    expect([...last.headers]).toEqual([["content-type", "image/jpeg"]]);
    expect(progress).toEqual([2, 3]);
  });

  test.each([
    [403, '{"reason":"URL_EXPIRED"}', "denied", "URL_EXPIRED"],
    [403, "<Error><Code>AccessDenied</Code></Error>", "denied", "AccessDenied"],
    [400, "<Error><Code>BadDigest</Code></Error>", "checksum", "BadDigest"],
    [422, '{"reason":"CHECKSUM_MISMATCH"}', "checksum", "CHECKSUM_MISMATCH"],
    [404, "<Error><Code>NoSuchUpload</Code></Error>", "gone", "NoSuchUpload"],
    [409, '{"reason":"OBJECT_EXISTS"}', "exists", "OBJECT_EXISTS"],
    [412, "<Error><Code>PreconditionFailed</Code></Error>", "there", "PreconditionFailed"],
    [503, "<Error><Code>SlowDown</Code></Error>", "busy", "SlowDown"],
    [429, '{"reason":"DISK_FULL"}', "busy", "DISK_FULL"],
    [500, "oops", "busy", null],
    [400, "", "refused", null],
  ])("%i %s is %s", async (status, body, kind, reason) => {
    const done = start(new Blob(["abc"]));
    FakeRequest.last.answer(status, body);
    await expect(done).rejects.toMatchObject({ name: "StoreError", kind, reason, status });
  });

  test("a busy store's delay is kept", async () => {
    const done = start(new Blob(["abc"]));
    FakeRequest.last.responseHeaders.set("retry-after", "3");
    FakeRequest.last.answer(503);
    await expect(done).rejects.toMatchObject({ retryAfterSeconds: 3 });
  });

  test("no answer, and a file that is gone", async () => {
    const done = start(new Blob(["abc"]));
    FakeRequest.last.onerror?.();
    await expect(done).rejects.toMatchObject({ kind: "network" });
    const gone = new Blob(["abc"]);
    gone.slice = () => {
      throw new DOMException("gone", "NotReadableError");
    };
    const failed = start(gone);
    FakeRequest.last.onerror?.();
    await expect(failed).rejects.toMatchObject({ kind: "unreadable" });
  });

  test("the signal aborts it, before and after its start", async () => {
    const controller = new AbortController();
    const done = start(new Blob(["abc"]), { signal: controller.signal });
    controller.abort();
    await expect(done).rejects.toMatchObject({ name: "AbortError" });
    await expect(start(new Blob([]), { signal: controller.signal })).rejects.toMatchObject({
      name: "AbortError",
    });
  });

  test("waits in the browser's queue for ever, but not for a dead connection", async () => {
    vi.useFakeTimers();
    const done = start(new Blob(["abc"])).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(10 * STALL_MS);
    FakeRequest.last.upload.onprogress?.({ loaded: 1 });
    await vi.advanceTimersByTimeAsync(STALL_MS + 1);
    expect(await done).toMatchObject({ kind: "network", reason: "STALLED" });
    vi.useRealTimers();
  });

  test("reasons and kinds of anything", () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 0, max: 999 }), (body, status) => {
        expect(typeof kindOf(status, reasonOf(body))).toBe("string");
      }),
    );
  });
});

describe("putRepeatedly", () => {
  const trying = async (...errors: (StoreError | null)[]) => {
    const renewals: boolean[] = [];
    const delays: number[] = [];
    const result = putRepeatedly({
      body: new Blob(["abc"]),
      signal,
      urlOf: (mustRenew) => {
        renewals.push(mustRenew);
        return Promise.resolve({ url: "u", headers: {} });
      },
      onProgress: () => undefined,
      put: () => {
        const error = errors.shift() ?? null;
        return error === null ? Promise.resolve() : Promise.reject(error);
      },
      pause: (ms) => {
        delays.push(ms);
        return Promise.resolve();
      },
      random: () => 0.5,
    });
    const error = await result.catch((each: unknown) => each);
    return { error, renewals, delays };
  };
  const of = (kind: StoreError["kind"]) =>
    new StoreError(kind, 0, null, kind === "busy" ? 2 : null);

  test("renews a URL that was denied, at once", async () => {
    const { error, renewals, delays } = await trying(of("denied"), null);
    expect(error).toBeUndefined();
    expect(renewals).toEqual([false, true]);
    expect(delays).toEqual([]);
  });

  test("repeats by the same URL with growing delays", async () => {
    const { renewals, delays } = await trying(of("checksum"), of("checksum"), of("busy"), null);
    expect(renewals).toEqual([false, false, false, false]);
    expect(delays).toEqual([200, 400, 2200]);
  });

  test("gives up after a few of a kind, and at once where a repeat is no help", async () => {
    const denied = await trying(of("denied"), of("denied"), of("denied"), null);
    expect(denied.error).toMatchObject({ kind: "denied" });
    expect((await trying(of("refused"), null)).renewals).toHaveLength(1);
    expect((await trying(of("unreadable"), null)).error).toMatchObject({ kind: "unreadable" });
  });

  test("a URL near its end is renewed, unless it was signed just now", () => {
    const at = (ms: number) => new Date(ms).toISOString();
    expect(isUsable(at(200_000), 0, 100_000)).toBe(true);
    expect(isUsable(at(150_000), 0, 100_000)).toBe(false);
    expect(isUsable(at(0), 99_000, 100_000)).toBe(true);
    expect(isUsable(null, 0, 100_000)).toBe(false);
    expect(isUsable("never", 0, 100_000)).toBe(false);
  });
});
