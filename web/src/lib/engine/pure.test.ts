import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { ApiError, NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";
import { StoreError, type StoreFailure } from "@/lib/s3/put";
import { itemOf } from "../../../tests/items";
import { delayOf, jittered } from "./backoff";
import { createBatcher } from "./batcher";
import { type Decision, canRetry, decide } from "./decisions";
import { UNKNOWN_LIMITS } from "./limits";
import {
  acceptOf,
  limitOf,
  refusalOf,
  sentName,
  strategyOf,
  strategyWithoutTus,
  typeOf,
} from "./precheck";
import { INITIAL_STATE, reduceAll } from "./reducer";
import { nextUploads, planJobs } from "./scheduler";
import { nextSpeed, secondsLeft, startSpeed } from "./speed";

function errorOf(reason: string, status: number, metadata: Record<string, string> = {}): ApiError {
  return new ApiError(status, reason, null, null, metadata);
}

describe("decide", () => {
  /** What docs/gateway.md and docs/tus.md name, and what an upload does about it. */
  const EXPECTED: Readonly<Record<string, readonly [number, Decision["next"]]>> = {
    JOB_NOT_FOUND: [404, "failed"],
    PHOTO_NOT_FOUND: [404, "failed"],
    VARIANT_NOT_FOUND: [404, "failed"],
    IDEMPOTENCY_CONFLICT: [409, "again"],
    REQUEST_IN_PROGRESS: [409, "again"],
    PARTS_MISSING: [409, "again"],
    ETAG_MISMATCH: [409, "again"],
    OBJECT_MISSING: [409, "again"],
    NOT_MULTIPART: [409, "again"],
    UPLOAD_COMPLETE: [409, "again"],
    UPLOAD_REPLACED: [409, "again"],
    UPLOAD_EXPIRED: [409, "retry"],
    PHOTO_UPLOADED: [409, "arrived"],
    PHOTO_ENDED: [409, "failed"],
    PHOTO_NOT_FAILED: [409, "failed"],
    PHOTO_INFECTED: [409, "failed"],
    REPROCESSING_DISABLED: [501, "failed"],
    OBJECT_EXISTS: [409, "failed"],
    OBJECT_DELETED: [409, "failed"],
    TOO_MANY_TAGS: [409, "failed"],
    DRIVE_READ_ONLY: [403, "failed"],
    NOT_GRANTED: [403, "failed"],
    BAD_FILENAME: [422, "failed"],
    UNSUPPORTED_CONTENT_TYPE: [422, "failed"],
    BAD_PHOTO_SIZE: [422, "failed"],
    BAD_STRATEGY: [422, "without-tus"],
    BAD_PART_NUMBER: [422, "failed"],
    BAD_TAG: [422, "failed"],
    BAD_SORT: [422, "failed"],
    BAD_CURSOR: [422, "failed"],
    BAD_JOB_ID: [422, "failed"],
    BAD_PHOTO_ID: [422, "failed"],
    BAD_IDEMPOTENCY_KEY: [422, "failed"],
    RATE_LIMITED: [429, "again"],
    BACK_PRESSURE: [503, "again"],
    STORE_UNAVAILABLE: [503, "again"],
    STORE_CIRCUIT_OPEN: [503, "again"],
    CATALOGUE_UNAVAILABLE: [503, "again"],
    MALFORMED_MESSAGE: [400, "failed"],
    AMBIGUOUS_CREDENTIALS: [401, "failed"],
    MISSING_SCOPE: [403, "failed"],
    HOST_NOT_ALLOWED: [403, "failed"],
    ORIGIN_NOT_ALLOWED: [403, "failed"],
    ROUTE_NOT_FOUND: [404, "failed"],
    METHOD_NOT_ALLOWED: [405, "failed"],
    MESSAGE_STALLED: [408, "again"],
    MESSAGE_TOO_LARGE: [413, "failed"],
    METADATA_TOO_LARGE: [431, "failed"],
    UNSUPPORTED_MEDIA_TYPE: [415, "failed"],
    INVALID_REQUEST: [422, "failed"],
    INTERNAL: [500, "again"],
    ACCOUNTS_DISABLED: [501, "failed"],
    TUS_NEEDS_KEYS: [501, "without-tus"],
    QUOTA_EXCEEDED: [507, "failed"],
    LOGIN_BUSY: [503, "again"],
    UNFINISHED_MESSAGES: [503, "again"],
    TOO_MANY_CONNECTIONS: [503, "again"],
    INTAKE_UNAVAILABLE: [503, "again"],
    PARTIAL_UPLOAD_PENDING: [503, "again"],
    BAD_TUS_HEADER: [400, "failed"],
    CHECKSUM_ALGORITHM_UNSUPPORTED: [400, "failed"],
    UPLOAD_NOT_PARTIAL: [400, "failed"],
    UPLOAD_IS_FINAL: [403, "failed"],
    UPLOAD_NOT_FOUND: [404, "again"],
    UPLOAD_LOST: [404, "again"],
    UPLOAD_OFFSET_MISMATCH: [409, "again"],
    PARTIAL_UPLOAD_INCOMPLETE: [409, "failed"],
    UPLOAD_COMPLETING: [409, "again"],
    UPLOAD_GONE: [410, "again"],
    LENGTH_REQUIRED: [411, "failed"],
    TUS_VERSION_UNSUPPORTED: [412, "failed"],
    UPLOAD_TOO_LARGE: [413, "failed"],
    UPLOAD_LENGTH_EXCEEDED: [413, "failed"],
    UPLOAD_CHECKSUM_MISMATCH: [460, "again"],
    DEFERRED_LENGTH_UNSUPPORTED: [501, "failed"],
  };
  /** Of other routes: log-in, live updates, deletions. */
  const OF_OTHERS: ReadonlySet<string> = new Set([
    "NO_CREDENTIALS",
    "BAD_TOKEN",
    "TOKEN_EXPIRED",
    "WRONG_CREDENTIALS",
    "SESSION_ENDED",
    "LINK_ENDED",
    "BAD_EMAIL",
    "BAD_PASSWORD",
    "TOO_MANY_FRAMES",
    "NODE_DELETED",
    "NOT_ARRIVED",
    "DRIVE_NOT_FOUND",
    "CHECKSUM_MISMATCH",
    "BAD_PROGRESS",
    "PANEL_MISSING",
  ]);
  const NO_REASONS: ReadonlySet<string> = new Set([
    "QUEUED",
    "UPLOADING",
    "PROCESSING",
    "COMPLETED",
    "COMPLETED_WITH_ERRORS",
    "FAILED",
    "CANCELLED",
    "IN_PROGRESS",
    "S3_PRESIGNED",
    "TUS",
  ]);

  test.each(Object.entries(EXPECTED))("%s", (reason, [status, next]) => {
    expect(decide(errorOf(reason, status)).next).toBe(next);
  });

  test("every reason that the documents name is in the table", () => {
    const named = ["gateway.md", "tus.md"].flatMap((name) => {
      const text = readFileSync(`../docs/${name}`, "utf-8");
      return [...text.matchAll(/`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|INTERNAL)`/g)].map(
        (match) => match[1] ?? "",
      );
    });
    const reasons = new Set(
      named.filter((each) => !each.startsWith("SLUICE_") && !each.startsWith("MAX_")),
    );
    const unknown = [...reasons].filter(
      (each) => !(each in EXPECTED) && !OF_OTHERS.has(each) && !NO_REASONS.has(each),
    );
    expect(unknown).toEqual([]);
  });

  test("an ended photo goes where the gateway says", () => {
    const ended = (status: string) => decide(errorOf("PHOTO_ENDED", 409, { status })).next;
    expect(ended("COMPLETED")).toBe("completed");
    expect(ended("CANCELLED")).toBe("cancelled");
    expect(ended("FAILED")).toBe("failed");
  });

  test("proxies and unknown errors", () => {
    expect(decide(errorOf("HTTP_502", 502)).next).toBe("again");
    expect(decide(errorOf("HTTP_400", 400)).next).toBe("failed");
    expect(decide(new SessionEnded()).next).toBe("log-in");
    expect(decide(new NetworkError())).toMatchObject({ next: "again", isNetwork: true });
    expect(decide(new NetworkError(true))).toMatchObject({ next: "again", isNetwork: false });
    expect(decide(new TypeError("defect"))).toMatchObject({
      next: "failed",
      failure: { reason: "UNKNOWN", canRetry: true },
    });
    expect(decide(new DOMException("gone", "NotReadableError"))).toMatchObject({
      failure: { reason: "FILE_CHANGED", canRetry: false },
    });
  });

  test("the delay of the answer is kept", () => {
    const error = new ApiError(503, "STORE_UNAVAILABLE", null, 7);
    expect(decide(error)).toEqual({ next: "again", isNetwork: false, retryAfterSeconds: 7 });
  });

  const OF_STORE: Readonly<Record<StoreFailure, string>> = {
    denied: "STORE_REFUSED",
    refused: "STORE_REFUSED",
    checksum: "CHECKSUM_MISMATCH",
    exists: "OBJECT_EXISTS",
    unreadable: "FILE_CHANGED",
    gone: "again",
    there: "again",
    busy: "again",
    network: "again",
  };
  test.each(Object.entries(OF_STORE))("the store's %s", (kind, expected) => {
    const decision = decide(new StoreError(kind as StoreFailure, 0, null));
    if (expected === "again") {
      expect(decision).toMatchObject({ next: "again", isNetwork: kind === "network" });
    } else expect(decision).toMatchObject({ failure: { reason: expected } });
  });

  test("what the processor found in the bytes it finds again", () => {
    expect(canRetry("TRUNCATED")).toBe(false);
    expect(canRetry("NOT_ARRIVED")).toBe(true);
    expect(canRetry("QUOTA_EXCEEDED")).toBe(true);
  });
});

describe("precheck", () => {
  const file = (name: string, type: string, size = 1) =>
    new File([new Uint8Array(size)], name, { type });

  test.each([
    ["a.jpg", "image/jpeg", "image/jpeg"],
    ["a.JPG", "", "image/jpeg"],
    ["a.heic", "", "image/heic"],
    ["a.HEIF", "application/octet-stream", "image/heif"],
    ["a.jpg", "image/jpg", "image/jpeg"],
    ["a.png", "IMAGE/PNG; q=1", "image/png"],
    ["a.jpg", "image/svg+xml", null],
    ["a.txt", "text/plain", null],
    ["a", "", null],
    ["a.jpg.exe", "", null],
  ])("%s of %s is %s", (name, type, expected) => {
    expect(typeOf(file(name, type), UNKNOWN_LIMITS.contentTypes)).toBe(expected);
  });

  test("empty, too large and foreign files are refused", () => {
    const limits = { ...UNKNOWN_LIMITS, maxPhotoBytes: 10 };
    const reasonOf = (each: File) => refusalOf({ file: each }, limits)?.reason ?? null;
    expect(reasonOf(file("a.jpg", "image/jpeg", 0))).toBe("EMPTY_FILE");
    expect(reasonOf(file("a.jpg", "image/jpeg", 11))).toBe("BAD_PHOTO_SIZE");
    expect(reasonOf(file("a.jpg", "image/jpeg", 10))).toBeNull();
    expect(reasonOf(file("a.pdf", "application/pdf"))).toBe("UNSUPPORTED_CONTENT_TYPE");
  });

  test("the size decides how it is sent", () => {
    const limits = { ...UNKNOWN_LIMITS, maxSinglePutBytes: 10, tusAboveBytes: 20 };
    const sizes = [10, 11, 20, 21];
    expect(sizes.map((size) => strategyOf(size, limits))).toEqual([
      "single",
      "multipart",
      "multipart",
      "tus",
    ]);
    expect(strategyWithoutTus(21, limits)).toBe("multipart");
  });

  test("dialogs offer the types that are taken, by their extensions too", () => {
    const types = new Set(["image/png", "image/tiff"]);
    expect(acceptOf(types)).toBe("image/png,image/tiff,.png,.tif,.tiff");
  });

  test("names and limits", () => {
    expect(sentName("  a.jpg ")).toBe("a.jpg");
    expect(sentName("e\u0301.jpg")).toBe("é.jpg");
    expect(limitOf("A photo has 1 to 209715200 bytes; send a smaller one.")).toBe(209715200);
    expect(limitOf("Too large.")).toBeNull();
    expect(limitOf(null)).toBeNull();
  });
});

describe("scheduler", () => {
  const stateOf = (count: number, concurrency = 100) =>
    reduceAll(INITIAL_STATE, [
      { type: "concurrency", uploads: concurrency },
      {
        type: "added",
        items: Array.from({ length: count }, (_, index) =>
          itemOf(`i${index}`, { photoId: `p${index}`, jobId: "j" }),
        ),
      },
    ]);

  test("starts as many as there are free slots, in order", () => {
    const state = reduceAll(stateOf(5, 3), [
      { type: "entered", id: "i0", phase: "sending" },
      { type: "moved", id: "i4", beforeId: "i1" },
    ]);
    expect(nextUploads(state, () => true)).toEqual(["i4", "i1"]);
    expect(nextUploads(state, ({ id }) => id !== "i4")).toEqual(["i1", "i2"]);
    expect(nextUploads({ ...state, isOnline: false }, () => true)).toEqual([]);
  });

  test("a job has 1,000 files of one batch and one strategy", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(2), fc.boolean(), fc.boolean()), { maxLength: 30 }),
        fc.nat(2500),
        (kinds, more) => {
          const items = [
            ...kinds.map(([batch, isTus, hasJob], index) =>
              itemOf(`k${index}`, {
                batchId: `b${batch}`,
                strategy: isTus ? "tus" : "single",
                jobId: hasJob ? "j" : null,
              }),
            ),
            ...Array.from({ length: more }, (_, index) => itemOf(`m${index}`)),
          ];
          const state = reduceAll(INITIAL_STATE, [{ type: "added", items }]);
          const jobs = planJobs(state, () => true);
          const without = items.filter((item) => item.jobId === null).map((item) => item.id);
          expect(jobs.flat().sort()).toEqual(without.sort());
          for (const job of jobs) {
            expect(job.length).toBeLessThanOrEqual(1000);
            const groups = job.map((id) => state.items.get(id));
            expect(new Set(groups.map((item) => item?.batchId)).size).toBe(1);
            expect(new Set(groups.map((item) => item?.strategy === "tus")).size).toBe(1);
          }
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe("speed", () => {
  test("a steady stream has its speed", () => {
    let speed = startSpeed(0, 0);
    for (let step = 1; step <= 40; step += 1) speed = nextSpeed(speed, step * 500, step * 500);
    expect(speed.bytesPerSecond).toBeCloseTo(1000);
  });

  test("a change is smoothed, and bytes taken back are no negative speed", () => {
    let speed = startSpeed(0, 0);
    for (let step = 1; step <= 10; step += 1) speed = nextSpeed(speed, step * 1000, step * 1000);
    const former = speed.bytesPerSecond ?? 0;
    speed = nextSpeed(speed, 12_000, 10_500);
    expect(speed.bytesPerSecond).toBeGreaterThan(former);
    expect(speed.bytesPerSecond).toBeLessThan(2000);
    speed = nextSpeed(speed, 0, 11_000);
    expect(speed.bytesPerSecond).toBeGreaterThan(0);
  });

  test("no speed before a second", () => {
    expect(nextSpeed(startSpeed(0, 0), 1000, 500).bytesPerSecond).toBeNull();
  });

  test("time left", () => {
    expect(secondsLeft(1000, 300)).toBe(4);
    expect(secondsLeft(0, null)).toBe(0);
    expect(secondsLeft(1000, null)).toBeNull();
    expect(secondsLeft(1000, 0)).toBeNull();
  });
});

describe("backoff", () => {
  test("full jitter below a ceiling that grows to its cap", () => {
    fc.assert(
      fc.property(
        fc.nat(100),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (attempt, random) => {
          const delay = jittered(attempt, { baseMs: 100, capMs: 5000 }, () => random);
          expect(delay).toBeGreaterThanOrEqual(0);
          expect(delay).toBeLessThanOrEqual(Math.min(5000, 100 * 2 ** Math.min(attempt, 30)));
        },
      ),
    );
  });

  test("never before Retry-After", () => {
    expect(delayOf(0, { baseMs: 100, capMs: 5000 }, 7, () => 0)).toBe(7000);
    expect(delayOf(0, { baseMs: 100, capMs: 5000 }, null, () => 0.5)).toBe(50);
  });
});

describe("batcher", () => {
  test("one call a frame, and by a timer without frames", () => {
    vi.useFakeTimers();
    const calls = vi.fn();
    const frames: (() => void)[] = [];
    const batcher = createBatcher(calls, {
      request: (callback) => frames.push(callback),
      cancel: () => frames.splice(0),
    });
    batcher.schedule();
    batcher.schedule();
    expect(frames.length).toBe(1);
    frames[0]?.();
    expect(calls).toHaveBeenCalledTimes(1);
    batcher.schedule();
    vi.advanceTimersByTime(250);
    expect(calls).toHaveBeenCalledTimes(2);
    batcher.flush();
    expect(calls).toHaveBeenCalledTimes(2);
    batcher.schedule();
    batcher.flush();
    expect(calls).toHaveBeenCalledTimes(3);
    vi.advanceTimersByTime(1000);
    expect(calls).toHaveBeenCalledTimes(3);
    vi.useRealTimers();
  });
});
