// @vitest-environment node
import { afterEach, describe, expect, test, vi } from "vitest";
import { type Bench, benchOf, fileOf } from "../../../tests/engineBench";
import { FakeGateway, problem } from "../../../tests/fakeGateway";
import { NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";
import { StoreError } from "@/lib/s3/put";
import type { BatchEnd } from "@/stores/uploadTypes";
import { UNKNOWN_LIMITS } from "./limits";

const started: Bench[] = [];

function start(...given: Parameters<typeof benchOf>): Bench {
  const bench = benchOf(...given);
  started.push(bench);
  return bench;
}

afterEach(() => {
  for (const bench of started.splice(0)) bench.engine.stop();
});

/** Holds PUTs until it is released. */
function heldPuts(gateway: FakeGateway): { release: () => void } {
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  gateway.onPut = async ({ signal }) => {
    await new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => {
        resolve();
      });
      void released.then(resolve);
    });
  };
  return { release };
}

const settled = (check: () => void) => vi.waitFor(check, { timeout: 3000, interval: 5 });

describe("a batch", () => {
  test("small and large files arrive whole and are completed", async () => {
    const { gateway, engine, add, until, followed } = start();
    const ends: BatchEnd[] = [];
    engine.onBatchEnd((end) => ends.push(end));
    add(fileOf("a.jpg", 9), fileOf("b.jpg", 95), fileOf("c.jpg", 20));
    expect(engine.store.getState().summary.waiting).toBe(3);
    await until("completed");
    expect(gateway.jobs.size).toBe(1);
    for (const [name, size] of [
      ["a.jpg", 9],
      ["b.jpg", 95],
      ["c.jpg", 20],
    ] as const) {
      const bytes = new Uint8Array(await fileOf(name, size).arrayBuffer());
      expect(gateway.photoOf(name).content).toEqual(bytes);
    }
    const { summary } = engine.store.getState();
    expect(summary).toMatchObject({ completed: 3, bytesSent: 124, bytesTotal: 124, uploading: 0 });
    expect(ends).toMatchObject([{ completed: 3, failed: 0, cancelled: 0 }]);
    expect(followed.size).toBe(0);
  });

  test("1,050 files are two jobs of one batch", async () => {
    const { gateway, add, until, items } = start();
    add(...Array.from({ length: 1050 }, (_, index) => fileOf(`${index}.jpg`, 3)));
    await until("completed");
    expect([...gateway.jobs.values()].map((ids) => ids.length)).toEqual([1000, 50]);
    expect(new Set(items().map((item) => item.batchId)).size).toBe(1);
    expect(gateway.mostPuts).toBeLessThanOrEqual(100);
  });

  test("limits of the operator count for what is added after them", async () => {
    const { engine, add, until, item, gateway } = start();
    add(fileOf("early.png", 30, { type: "image/png" }));
    engine.setLimits({
      maxPhotoBytes: 25,
      maxJobPhotos: 2,
      contentTypes: new Set(["image/jpeg"]),
      maxSinglePutBytes: 20,
      tusAboveBytes: Infinity,
    });
    add(fileOf("a.jpg"), fileOf("b.jpg"), fileOf("c.jpg"), fileOf("large.jpg", 26));
    add(fileOf("late.png", 9, { type: "image/png" }));
    await until("completed", "rejected");
    expect(item("early.png").phase).toBe("completed");
    expect(item("large.jpg").failure?.reason).toBe("BAD_PHOTO_SIZE");
    expect(item("late.png").failure?.reason).toBe("UNSUPPORTED_CONTENT_TYPE");
    expect([...gateway.jobs.values()].map((ids) => ids.length)).toEqual([1, 2, 1]);
  });

  test("files that are refused do not hold up the others", async () => {
    const { engine, add, until, item, gateway } = start();
    engine.setLimits({ ...UNKNOWN_LIMITS, maxPhotoBytes: 1000 });
    const ends: BatchEnd[] = [];
    engine.onBatchEnd((end) => ends.push(end));
    add(
      fileOf("a.jpg"),
      fileOf("b.txt", 9, { type: "text/plain" }),
      fileOf("empty.jpg", 0),
      fileOf("large.jpg", 2000),
      fileOf("a.jpg"),
    );
    await until("completed", "rejected", "duplicate");
    expect(item("b.txt").failure?.reason).toBe("UNSUPPORTED_CONTENT_TYPE");
    expect(item("empty.jpg").failure?.reason).toBe("EMPTY_FILE");
    expect(item("large.jpg").failure?.reason).toBe("BAD_PHOTO_SIZE");
    expect(engine.store.getState().summary).toMatchObject({ completed: 1, failed: 3, total: 5 });
    expect(gateway.photos.size).toBe(1);
    expect(ends).toMatchObject([{ completed: 1, failed: 3 }]);
  });

  test("what the gateway refuses of a job is taken out of it", async () => {
    const { gateway, add, until, item } = start();
    gateway.fail(
      "createJob",
      problem(422, "BAD_FILENAME", {}, ["files.1.filename"]),
      problem(422, "BAD_PHOTO_SIZE", {}, ["files.0.bytes"]),
    );
    add(fileOf("a.jpg"), fileOf("b.jpg"), fileOf("c.jpg"));
    await until("completed", "rejected");
    expect(item("b.jpg").failure).toMatchObject({ reason: "BAD_FILENAME", canRetry: false });
    expect(item("a.jpg").failure?.reason).toBe("BAD_PHOTO_SIZE");
    expect(item("c.jpg").phase).toBe("completed");
  });

  test.each([
    [507, "QUOTA_EXCEEDED"],
    [403, "NOT_GRANTED"],
    [403, "DRIVE_READ_ONLY"],
    [403, "MISSING_SCOPE"],
  ])("a job that is refused with %i %s fails, and can be retried", async (status, reason) => {
    const { gateway, engine, add, until, item } = start();
    gateway.fail("createJob", problem(status, reason));
    add(fileOf("a.jpg"));
    await until("failed");
    expect(item("a.jpg").failure).toMatchObject({ reason, canRetry: true });
    engine.retryAll();
    await until("completed");
  });

  test.each([
    [429, "RATE_LIMITED"],
    [503, "BACK_PRESSURE"],
  ])(
    "while jobs are refused with %i the queue waits, and repeats with its key",
    async (status, reason) => {
      const { gateway, add, until, items } = start();
      gateway.fail("createJob", problem(status, reason, {}, [], 0.02));
      add(fileOf("a.jpg"));
      await settled(() => {
        expect(gateway.count("createJob")).toBe(1);
      });
      expect(items()[0]?.phase).toBe("waiting");
      await until("completed");
      const keys = gateway.log.filter((line) => line.startsWith("createJob"));
      expect(keys.length).toBe(2);
      expect(new Set(keys).size).toBe(1);
    },
  );

  test("a key of another request is replaced", async () => {
    const { gateway, add, until } = start();
    gateway.fail("createJob", problem(409, "IDEMPOTENCY_CONFLICT"));
    add(fileOf("a.jpg"));
    await until("completed");
    expect(new Set(gateway.log.filter((line) => line.startsWith("createJob"))).size).toBe(2);
  });
});

describe("failures of one upload", () => {
  test.each([
    ["a store that is busy", "put", () => new StoreError("busy", 503, null)],
    ["bytes that changed on their way", "put", () => new StoreError("checksum", 400, null)],
    ["a store that is not reached", "put", () => new StoreError("network", 0, null)],
    ["a gateway that is not reached", "finalize", () => new NetworkError()],
    ["an outage", "finalize", () => problem(503, "STORE_CIRCUIT_OPEN", {}, [], 0.01)],
    ["a missing object", "finalize", () => problem(409, "OBJECT_MISSING")],
  ] as const)("%s ends completed by itself", async (_name, call, error) => {
    const { gateway, add, until } = start();
    gateway.fail(call, error(), error(), error());
    add(fileOf("a.jpg"), fileOf("b.jpg", 95));
    await until("completed");
  });

  test("parts that the gateway removed are sent in a new attempt", async () => {
    const { gateway, add, until, item } = start();
    vi.spyOn(gateway.calls, "finalize").mockImplementationOnce(() => {
      gateway.photoOf("b.jpg").status = "FAILED";
      return Promise.reject(problem(409, "UPLOAD_EXPIRED", { status: "FAILED" }));
    });
    add(fileOf("b.jpg", 95));
    await until("completed");
    expect(gateway.photoOf("b.jpg").attempt).toBe(2);
    expect(item("b.jpg").attempt).toBe(2);
  });

  test("a file that changed fails for good, and its job does not wait for it", async () => {
    const { gateway, add, until, item } = start();
    gateway.fail("put", new StoreError("unreadable", 0, null));
    add(fileOf("a.jpg"));
    await until("failed");
    expect(item("a.jpg").failure).toMatchObject({ reason: "FILE_CHANGED", canRetry: false });
    await settled(() => {
      expect(gateway.photoOf("a.jpg").status).toBe("CANCELLED");
    });
    expect(item("a.jpg").phase).toBe("failed");
  });

  test("of what arrived only the end is awaited", async () => {
    const { gateway, add, until } = start();
    gateway.completes = false;
    gateway.fail("finalize", problem(409, "PHOTO_UPLOADED"));
    add(fileOf("a.jpg"));
    await until("processing");
    gateway.setStatus(gateway.photoOf("a.jpg"), "COMPLETED");
    await until("completed");
  });

  test("without keys on services tus is replaced by signed URLs", async () => {
    const { engine, gateway, add, until, item } = start();
    engine.setLimits({ ...UNKNOWN_LIMITS, maxSinglePutBytes: 20, tusAboveBytes: 50 });
    gateway.fail("createJob", problem(422, "BAD_STRATEGY", {}, ["strategy"]));
    add(fileOf("b.jpg", 95));
    await until("completed");
    expect(item("b.jpg").strategy).toBe("multipart");
  });
});

describe("retry", () => {
  const failed = async (status: "FAILED", reason: string, hasArrived: boolean) => {
    const bench = start();
    bench.gateway.completes = false;
    const held = heldPuts(bench.gateway);
    bench.add(fileOf("a.jpg"));
    await bench.until("sending");
    if (hasArrived) {
      held.release();
      await bench.until("processing");
    }
    bench.gateway.setStatus(bench.gateway.photoOf("a.jpg"), status, reason);
    await bench.until("failed");
    bench.gateway.onPut = null;
    bench.gateway.completes = true;
    return bench;
  };

  test("one that never arrived is sent again", async () => {
    const { engine, gateway, until, id, item } = await failed("FAILED", "NOT_ARRIVED", false);
    engine.retry(id("a.jpg"));
    expect(item("a.jpg")).toMatchObject({ phase: "waiting", attempt: 2, failure: null });
    await until("completed");
    expect(gateway.photoOf("a.jpg").attempt).toBe(2);
  });

  test("one that arrived is processed again", async () => {
    const { engine, gateway, until, id } = await failed("FAILED", "TIMEOUT", true);
    engine.retry(id("a.jpg"));
    await until("processing");
    expect(gateway.count("reprocess")).toBe(1);
    gateway.setStatus(gateway.photoOf("a.jpg"), "COMPLETED");
    await until("completed");
  });

  test("without reprocessing its file is asked for, and goes in a new job", async () => {
    const { engine, gateway, until, id } = await failed("FAILED", "TIMEOUT", true);
    gateway.fail("reprocess", problem(501, "REPROCESSING_DISABLED"));
    engine.retry(id("a.jpg"));
    await until("needs-file");
    expect(await engine.provide([{ file: fileOf("a.jpg") }])).toEqual([id("a.jpg")]);
    await until("completed");
    expect(gateway.jobs.size).toBe(2);
  });

  test.each([
    problem(404, "PHOTO_NOT_FOUND"),
    problem(409, "OBJECT_DELETED"),
    problem(409, "PHOTO_ENDED", { status: "CANCELLED" }),
  ])("after $reason it goes in a new job", async (error) => {
    const { engine, gateway, until, id } = await failed("FAILED", "NOT_ARRIVED", false);
    gateway.fail("retry", error);
    engine.retry(id("a.jpg"));
    await until("completed");
    expect(gateway.jobs.size).toBe(2);
  });

  test("one that was retried elsewhere goes on", async () => {
    const { engine, gateway, until, id } = await failed("FAILED", "NOT_ARRIVED", false);
    gateway.photoOf("a.jpg").status = "UPLOADING";
    engine.retry(id("a.jpg"));
    await until("completed");
    expect(gateway.jobs.size).toBe(1);
  });

  test("a retry that is refused shows why", async () => {
    const { engine, gateway, until, id, item } = await failed("FAILED", "NOT_ARRIVED", false);
    gateway.fail("retry", problem(403, "NOT_GRANTED"));
    engine.retry(id("a.jpg"));
    await settled(() => {
      expect(item("a.jpg").failure?.reason).toBe("NOT_GRANTED");
    });
    await until("failed");
  });

  test("what cannot succeed is not retried", async () => {
    const { engine, gateway, id, item } = await failed("FAILED", "CORRUPT", true);
    engine.retry(id("a.jpg"));
    engine.retryAll();
    expect(item("a.jpg").phase).toBe("failed");
    expect(gateway.count("retry")).toBe(0);
  });
});

describe("outages", () => {
  test("without a network all waits, and goes on by itself", async () => {
    let isUp = false;
    const { gateway, engine, add, until } = start({ probe: () => Promise.resolve(isUp) });
    gateway.fail("createJob", new NetworkError());
    add(fileOf("a.jpg"), fileOf("b.jpg", 95));
    await settled(() => {
      expect(engine.store.getState().isOnline).toBe(false);
    });
    expect(gateway.photos.size).toBe(0);
    isUp = true;
    await until("completed");
    expect(engine.store.getState().isOnline).toBe(true);
  });

  test("the browser's events only make it look", async () => {
    const probe = vi.fn(() => Promise.resolve(true));
    const { engine, target } = start({ probe });
    await engine.start();
    target.dispatchEvent(new Event("offline"));
    await settled(() => {
      expect(probe).toHaveBeenCalled();
    });
    expect(engine.store.getState().isOnline).toBe(true);
  });

  test("without a session all waits until somebody is logged in", async () => {
    let isLoggedIn = false;
    const listeners: (() => void)[] = [];
    const { gateway, engine, add, until } = start({
      session: {
        token: () => (isLoggedIn ? Promise.resolve("t") : Promise.reject(new SessionEnded())),
        subscribe: (listener) => {
          listeners.push(listener);
          return () => undefined;
        },
      },
    });
    gateway.fail("createJob", new SessionEnded());
    add(fileOf("a.jpg"));
    await settled(() => {
      expect(gateway.count("createJob")).toBe(1);
    });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(gateway.count("createJob")).toBe(1);
    expect(engine.store.getState().summary.waiting).toBe(1);
    isLoggedIn = true;
    for (const listener of listeners) listener();
    await until("completed");
  });
});
