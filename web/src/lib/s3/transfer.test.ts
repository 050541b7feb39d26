// @vitest-environment node
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeGateway, problem } from "../../../tests/fakeGateway";
import { NetworkError } from "@/lib/api/errors";
import { crc32cOf } from "./crc32c";
import { type MultipartUpload, sendMultipart } from "./multipart";
import { createPartPool } from "./partPool";
import { StoreError } from "./put";
import { sendSingle } from "./single";

const QUICK = { pause: () => Promise.resolve(), random: () => 0 };
const signal = new AbortController().signal;

function bytesOf(size: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: size }, (_, index) => (index * 7) % 251);
}

describe("sendMultipart", () => {
  const PART = 10;
  const open = async (size: number) => {
    const gateway = new FakeGateway(PART);
    gateway.singleMax = 5;
    const files = [{ filename: "a.jpg", mimeType: "image/jpeg" as const, bytes: size }];
    const job = await gateway.calls.createJob(files, "s3-presigned", "key");
    const photo = gateway.photoOf("a.jpg");
    const bytes = bytesOf(size);
    const progress: number[] = [];
    const send = (more: Partial<MultipartUpload> = {}) =>
      sendMultipart({
        calls: gateway.calls,
        photoId: photo.photoId,
        file: new Blob([bytes]),
        fresh: job.items[0]?.multipart ?? null,
        signal,
        pool: createPartPool(),
        parallel: 3,
        crc32c: crc32cOf,
        onProgress: (sent) => progress.push(sent),
        repeat: QUICK,
        put: gateway.put,
        ...more,
      });
    return { gateway, photo, bytes, send, progress };
  };

  test("sends all parts once and finalizes", async () => {
    const { gateway, photo, bytes, send, progress } = await open(95);
    await send();
    expect(photo.content).toEqual(bytes);
    expect(gateway.sentParts.length).toBe(10);
    expect(gateway.count("finalize")).toBe(1);
    expect(progress.at(-1)).toBe(95);
    expect(gateway.mostPuts).toBeLessThanOrEqual(3);
    expect(gateway.mostPuts).toBeGreaterThan(1);
  });

  test("sends nothing again that the store has", async () => {
    const { gateway, photo, bytes, send } = await open(95);
    photo.parts.set(1, bytes.slice(0, 10));
    photo.parts.set(10, bytes.slice(90));
    await send({ fresh: null });
    expect(photo.content).toEqual(bytes);
    expect(
      gateway.sentParts.map((each) => Number(each.split("#")[1])).sort((a, b) => a - b),
    ).toEqual([2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("any faults that pass end with the whole file", async () => {
    const fault = fc.constantFrom<readonly [Parameters<FakeGateway["fail"]>[0], () => Error]>(
      ["put", () => new StoreError("busy", 503, null)],
      ["put", () => new StoreError("checksum", 400, null)],
      ["put", () => new StoreError("denied", 403, null)],
      ["put", () => new StoreError("network", 0, null)],
      ["signParts", () => new NetworkError()],
      ["signParts", () => problem(503, "STORE_UNAVAILABLE")],
      ["signParts", () => problem(409, "UPLOAD_REPLACED")],
      ["finalize", () => problem(503, "STORE_CIRCUIT_OPEN")],
      ["finalize", () => problem(409, "PARTS_MISSING", { parts: "1-2" })],
      ["finalize", () => problem(409, "ETAG_MISMATCH", { parts: "garbage" })],
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 6, max: 120 }),
        fc.uniqueArray(fault, { maxLength: 4 }),
        fc.integer({ min: 1, max: 4 }),
        async (size, faults, parallel) => {
          const { gateway, photo, bytes, send, progress } = await open(size);
          for (const [name, error] of faults) gateway.fail(name, error());
          await send({ parallel });
          expect(photo.content).toEqual(bytes);
          for (const sent of progress) {
            expect(sent).toBeGreaterThanOrEqual(0);
            expect(sent).toBeLessThanOrEqual(size);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("parts that the gateway names are sent again", async () => {
    const { gateway, photo, send } = await open(50);
    gateway.fail("finalize", problem(409, "PARTS_MISSING", { parts: "2,4" }));
    await send();
    expect(gateway.sentParts.length).toBe(7);
    expect(photo.status).toBe("COMPLETED");
  });

  test("a URL that has expired is renewed, by itself", async () => {
    const { gateway, photo, bytes, send } = await open(95);
    let puts = 0;
    gateway.onPut = () => {
      puts += 1;
      if (puts === 4) gateway.expireUrls();
    };
    await send();
    expect(photo.content).toEqual(bytes);
  });

  test("a new attempt at the gateway is taken up", async () => {
    const { gateway, photo, bytes, send } = await open(45);
    photo.attempt = 2;
    await send();
    expect(photo.content).toEqual(bytes);
    expect(gateway.count("finalize")).toBe(1);
  });

  test("an upload that is complete is only finalized", async () => {
    const { gateway, photo, send } = await open(45);
    photo.hasObject = true;
    for (let number = 1; number <= 5; number += 1) photo.parts.set(number, new Uint8Array());
    await send({ fresh: null });
    expect(gateway.sentParts).toEqual([]);
    expect(photo.status).toBe("COMPLETED");
  });

  test("errors that do not pass end it, with all its parts", async () => {
    const { gateway, send } = await open(95);
    gateway.fail("signParts", problem(409, "PHOTO_ENDED", { status: "CANCELLED" }));
    await expect(send()).rejects.toMatchObject({ reason: "PHOTO_ENDED" });
    gateway.fail("put", new StoreError("refused", 400, null));
    await expect(send()).rejects.toMatchObject({ kind: "refused" });
    expect(gateway.putsNow).toBe(0);
  });

  test("the signal stops all its parts", async () => {
    const { gateway, send } = await open(95);
    const controller = new AbortController();
    gateway.onPut = () => {
      controller.abort();
    };
    await expect(send({ signal: controller.signal })).rejects.toMatchObject({ name: "AbortError" });
    expect(gateway.putsNow).toBe(0);
    expect(gateway.sentParts).toEqual([]);
  });

  test("while many files are sent, each has one part at a time", async () => {
    const { gateway, send, photo, bytes } = await open(95);
    const pool = createPartPool(8);
    pool.setFiles(100);
    await send({ pool });
    expect(gateway.mostPuts).toBe(1);
    expect(photo.content).toEqual(bytes);
  });
});

describe("sendSingle", () => {
  const open = async () => {
    const gateway = new FakeGateway();
    const files = [{ filename: "a.jpg", mimeType: "image/jpeg" as const, bytes: 9 }];
    const job = await gateway.calls.createJob(files, "s3-presigned", "key");
    const photo = gateway.photoOf("a.jpg");
    const item = job.items[0];
    const send = (isReloaded = false, put: FakeGateway["put"] = gateway.put) =>
      sendSingle({
        calls: gateway.calls,
        photoId: photo.photoId,
        file: new Blob([bytesOf(9)]),
        ticket: isReloaded || item === undefined ? null : { item, signedAt: Date.now() },
        signal,
        onProgress: () => undefined,
        repeat: QUICK,
        put,
      });
    return { gateway, photo, send };
  };

  test("puts, then finalizes", async () => {
    const { gateway, photo, send } = await open();
    await send();
    expect(photo.content).toEqual(bytesOf(9));
    expect(gateway.count("renew")).toBe(0);
    expect(gateway.count("finalize")).toBe(1);
  });

  test("after a reload it asks for a URL", async () => {
    const { gateway, photo, send } = await open();
    await send(true);
    expect(gateway.count("renew")).toBe(1);
    expect(photo.status).toBe("COMPLETED");
  });

  test("an expired URL is renewed", async () => {
    const { gateway, photo, send } = await open();
    gateway.expireUrls();
    await send();
    expect(gateway.count("renew")).toBe(1);
    expect(photo.status).toBe("COMPLETED");
  });

  test("what the store does not have is sent again, a few times", async () => {
    const { gateway, photo, send } = await open();
    gateway.fail("finalize", problem(409, "OBJECT_MISSING"));
    await send();
    expect(gateway.count("put")).toBe(2);
    expect(photo.status).toBe("COMPLETED");
    const other = await open();
    other.gateway.fail(
      "finalize",
      ...Array.from({ length: 3 }, () => problem(409, "OBJECT_MISSING")),
    );
    await expect(other.send()).rejects.toMatchObject({ reason: "OBJECT_MISSING" });
  });

  test("an object that is there already is finalized", async () => {
    const { gateway, photo, send } = await open();
    photo.content = bytesOf(9);
    photo.hasObject = true;
    await send(true);
    expect(gateway.count("put")).toBe(1);
    expect(photo.status).toBe("COMPLETED");
  });

  test("a PUT whose answer was lost is not sent again", async () => {
    const { gateway, photo, send } = await open();
    await send(false, async (options) => {
      await gateway.put(options);
      throw new StoreError("network", 0, null);
    });
    expect(gateway.count("put")).toBe(1);
    expect(photo.status).toBe("COMPLETED");
  });

  test("a PUT that did not arrive is sent again", async () => {
    const { gateway, photo, send } = await open();
    gateway.fail("put", new StoreError("network", 0, null));
    gateway.fail("finalize", problem(409, "OBJECT_MISSING"));
    await send();
    expect(gateway.count("put")).toBe(2);
    expect(photo.status).toBe("COMPLETED");
  });

  test.each(["PHOTO_ENDED", "PHOTO_NOT_FOUND"])(
    "with %s after a lost PUT it stops",
    async (reason) => {
      const { gateway, send } = await open();
      gateway.fail("put", new StoreError("network", 0, null));
      gateway.fail("finalize", problem(409, reason));
      await expect(send()).rejects.toMatchObject({ reason });
      expect(gateway.count("put")).toBe(1);
      expect(gateway.count("finalize")).toBe(1);
    },
  );

  test("without a network the PUT's failure is the one that is told", async () => {
    const { gateway, send } = await open();
    gateway.fail("put", ...Array.from({ length: 3 }, () => new StoreError("network", 0, null)));
    gateway.fail("finalize", ...Array.from({ length: 3 }, () => new NetworkError()));
    await expect(send()).rejects.toMatchObject({ name: "StoreError", kind: "network" });
  });
});
