// @vitest-environment node
import { describe, expect, test, vi } from "vitest";
import { itemOf } from "../../../tests/items";
import { ApiError, NetworkError } from "@/lib/api/errors";
import type { ProgressReport } from "@/lib/api/upload";
import type { ProgressUpdate } from "@/lib/websocket/types";
import { createUploadStore } from "@/stores/uploadStore";
import type { BatchEnd, UploadItem } from "@/stores/uploadTypes";
import { Batches } from "./batches";
import { createConnectivity, healthProbe } from "./connectivity";
import { EngineCore } from "./core";
import { Following } from "./following";
import { FRESH_WORK } from "./intake";
import { Limiter } from "./limiter";
import { Meter } from "./meter";
import { ProgressReporter } from "./progressReporter";
import { INITIAL_STATE, reduceAll } from "./reducer";
import { createReconciler } from "./reconcile";
import { Thumbnails } from "./thumbnails";

const FRAMES = { request: () => 0, cancel: () => undefined };

function coreOf(...items: UploadItem[]): EngineCore {
  const core = new EngineCore(createUploadStore(), FRAMES);
  for (const item of items) {
    core.works.set(item.id, {
      ...FRESH_WORK,
      file: new File(["abc"], item.name),
      handle: null,
      lastModified: 0,
      folder: "",
      key: item.id,
    });
  }
  core.dispatch({ type: "added", items });
  return core;
}

const sent = (id: string, changes: Partial<UploadItem> = {}) =>
  itemOf(id, { jobId: "j", photoId: `p-${id}`, phase: "sending", ...changes });

describe("what the gateway says", () => {
  const update = (changes: Partial<ProgressUpdate>): ProgressUpdate => ({
    jobId: "j",
    photoId: "p-a",
    status: "UPLOADING",
    progress: 0,
    sequence: 1,
    bytesSent: null,
    bytesTotal: null,
    reason: null,
    ...changes,
  });

  test.each([
    ["sending", "PROCESSING", "processing"],
    ["waiting", "PROCESSING", "processing"],
    ["paused", "COMPLETED", "completed"],
    ["needs-file", "COMPLETED", "completed"],
    ["sending", "FAILED", "failed"],
    ["processing", "FAILED", "failed"],
    ["sending", "CANCELLED", "cancelled"],
    ["processing", "UPLOADING", "processing"],
    ["sending", "UPLOADING", "sending"],
    ["failed", "COMPLETED", "completed"],
    ["failed", "PROCESSING", "processing"],
    ["failed", "CANCELLED", "failed"],
    ["cancelled", "COMPLETED", "completed"],
    ["cancelled", "PROCESSING", "cancelled"],
    ["completed", "FAILED", "completed"],
  ] as const)("%s and %s is %s", (phase, status, expected) => {
    const core = coreOf(sent("a", { phase }));
    createReconciler(core).listener.onChange(update({ status, reason: "CORRUPT" }));
    expect(core.item("a")?.phase).toBe(expected);
    if (phase !== "failed" && expected === "failed") {
      expect(core.item("a")?.failure).toMatchObject({ reason: "CORRUPT", canRetry: false });
    }
  });

  test("it stops what it makes needless, and its file is released", () => {
    const core = coreOf(sent("a"));
    const controller = new AbortController();
    const work = core.works.get("a");
    if (work !== undefined) work.controller = controller;
    createReconciler(core).listener.onChange(update({ status: "COMPLETED" }));
    expect(controller.signal.aborted).toBe(true);
    expect(work?.file).toBeNull();
  });

  test("what comes late has no effect, and a snapshot without order has", () => {
    const core = coreOf(sent("a"));
    const { listener } = createReconciler(core);
    listener.onChange(update({ status: "PROCESSING", sequence: 5 }));
    listener.onChange(update({ status: "CANCELLED", sequence: 4 }));
    expect(core.item("a")?.phase).toBe("processing");
    listener.onSnapshot("j", [update({ status: "COMPLETED", sequence: 0 })], true);
    expect(core.item("a")?.phase).toBe("completed");
  });

  test("what a complete snapshot lacks does not exist", () => {
    const core = coreOf(sent("a"), sent("b"), sent("c", { jobId: "other" }));
    const { listener } = createReconciler(core);
    listener.onSnapshot("j", [update({})], false);
    expect(core.item("b")?.phase).toBe("sending");
    listener.onSnapshot("j", [update({ sequence: 2 })], true);
    expect(core.item("b")).toMatchObject({
      phase: "failed",
      failure: { reason: "PHOTO_NOT_FOUND" },
    });
    expect(core.item("a")?.phase).toBe("sending");
    listener.onGone("other");
    expect(core.item("c")?.failure?.reason).toBe("JOB_NOT_FOUND");
  });

  test("a failure of before a retry does not count for the next attempt", () => {
    const core = coreOf(sent("a"));
    const work = core.works.get("a");
    if (work !== undefined) work.retriedAt = Date.now();
    createReconciler(core).listener.onChange(update({ status: "FAILED", sequence: 0 }));
    expect(core.item("a")?.phase).toBe("sending");
  });

  test("the transport is shown", () => {
    const core = coreOf();
    createReconciler(core).listener.onTransport("sse");
    expect(core.state.live).toBe("sse");
  });

  test("a photo of others is nobody's", () => {
    const core = coreOf(sent("a"));
    createReconciler(core).listener.onChange(update({ photoId: "p-x", status: "COMPLETED" }));
    createReconciler(core).listener.onChange(update({ photoId: null, status: "COMPLETED" }));
    expect(core.item("a")?.phase).toBe("sending");
  });
});

describe("reports of progress", () => {
  const stateOf = (...items: UploadItem[]) => reduceAll(INITIAL_STATE, [{ type: "added", items }]);
  const reporterOf = (...errors: Error[]) => {
    const posts: (readonly ProgressReport[])[] = [];
    let now = 0;
    const reporter = new ProgressReporter(
      {
        reportProgress: (reports) => {
          posts.push(reports);
          const error = errors.shift();
          return error === undefined ? Promise.resolve() : Promise.reject(error);
        },
      },
      () => now,
    );
    const tickAt = async (ms: number, ...items: UploadItem[]) => {
      now = ms;
      reporter.tick(stateOf(...items));
      await new Promise((resolve) => setTimeout(resolve, 0));
    };
    return { posts, tickAt };
  };

  test("one list of what has changed, twice a second at most", async () => {
    const { posts, tickAt } = reporterOf();
    await tickAt(0, sent("a", { bytesSent: 10 }), sent("b"), itemOf("c"));
    await tickAt(100, sent("a", { bytesSent: 20 }));
    await tickAt(500, sent("a", { bytesSent: 20 }), sent("b", { bytesSent: 5 }));
    await tickAt(1000, sent("a", { bytesSent: 15 }), sent("b", { bytesSent: 5 }));
    expect(posts).toEqual([
      [{ photoId: "p-a", bytesSent: 10, bytesTotal: 1000 }],
      [
        { photoId: "p-a", bytesSent: 20, bytesTotal: 1000 },
        { photoId: "p-b", bytesSent: 5, bytesTotal: 1000 },
      ],
    ]);
  });

  test("in a minute of a hundred uploads far fewer posts than are allowed", async () => {
    const { posts, tickAt } = reporterOf();
    for (let tick = 0; tick < 600; tick += 1) {
      await tickAt(tick * 100, sent("a", { size: 1e9, bytesSent: tick + 1 }));
    }
    expect(posts.length).toBeLessThanOrEqual(120);
  });

  test("429 is respected, and no error gets out", async () => {
    const { posts, tickAt } = reporterOf(
      new ApiError(429, "RATE_LIMITED", null, 5),
      new NetworkError(),
    );
    await tickAt(0, sent("a", { bytesSent: 10 }));
    await tickAt(4000, sent("a", { bytesSent: 20 }));
    expect(posts.length).toBe(1);
    await tickAt(5000, sent("a", { bytesSent: 30 }));
    await tickAt(6000, sent("a", { bytesSent: 40 }));
    expect(posts.length).toBe(2);
    await tickAt(9000, sent("a", { bytesSent: 50 }));
    expect(posts.length).toBe(3);
  });

  test("1,000 of them in one post at most", async () => {
    const { posts, tickAt } = reporterOf();
    const items = Array.from({ length: 1500 }, (_, index) => sent(`${index}`, { bytesSent: 1 }));
    await tickAt(0, ...items);
    await tickAt(500, ...items);
    expect(posts.map((post) => post.length)).toEqual([1000, 500]);
  });
});

describe("connectivity", () => {
  test("looks until there is an answer, at once when the browser says so", async () => {
    let isUp = false;
    const probe = vi.fn(() => Promise.resolve(isUp));
    const changes: boolean[] = [];
    const target = new EventTarget();
    const connectivity = createConnectivity({
      probe,
      target,
      onChange: (isOnline) => changes.push(isOnline),
      backoff: { baseMs: 60_000, capMs: 60_000 },
    });
    connectivity.start();
    connectivity.suspect();
    connectivity.suspect();
    await vi.waitFor(() => {
      expect(changes).toEqual([false]);
    });
    expect(probe).toHaveBeenCalledTimes(1);
    isUp = true;
    await new Promise((resolve) => setTimeout(resolve, 5));
    target.dispatchEvent(new Event("online"));
    await vi.waitFor(() => {
      expect(changes).toEqual([false, true]);
    });
    connectivity.stop();
    target.dispatchEvent(new Event("offline"));
    expect(probe).toHaveBeenCalledTimes(2);
  });

  test("any answer counts, but not that of a proxy", async () => {
    const answering = (status: number) =>
      healthProbe("https://gateway.test", () => Promise.resolve(new Response(null, { status })));
    const { signal } = new AbortController();
    expect(await answering(200)(signal)).toBe(true);
    expect(await answering(404)(signal)).toBe(true);
    expect(await answering(502)(signal)).toBe(false);
    const none = healthProbe("https://gateway.test", () => Promise.reject(new TypeError("no")));
    expect(await none(signal)).toBe(false);
  });
});

describe("around the state", () => {
  test("the end of a batch is heard once, and again after a retry", () => {
    const core = coreOf(sent("a"), sent("b"));
    const batches = new Batches(core);
    const ends: BatchEnd[] = [];
    const unsubscribe = batches.onEnd((end) => ends.push(end));
    const enter = (id: string, phase: UploadItem["phase"]) => {
      core.dispatch({ type: "entered", id, phase });
    };
    enter("a", "completed");
    expect(ends).toEqual([]);
    enter("b", "failed");
    core.dispatch({ type: "pictured", id: "a", url: "u" });
    expect(ends).toEqual([{ batchId: "batch", completed: 1, failed: 1, cancelled: 0 }]);
    enter("b", "waiting");
    enter("b", "cancelled");
    expect(ends[1]).toEqual({ batchId: "batch", completed: 1, failed: 0, cancelled: 1 });
    unsubscribe();
  });

  test("jobs are followed while something of them is open", () => {
    const core = coreOf();
    const live = { follow: vi.fn(), unfollow: vi.fn(), wake: vi.fn(), stop: vi.fn() };
    const following = new Following(core, live);
    core.dispatch({ type: "added", items: [sent("a"), sent("b")] });
    expect(live.follow.mock.calls).toEqual([["j"]]);
    core.dispatch({ type: "entered", id: "a", phase: "completed" });
    core.dispatch({ type: "removed", ids: ["a"] });
    expect(live.unfollow).not.toHaveBeenCalled();
    core.dispatch({ type: "entered", id: "b", phase: "failed" });
    expect(live.unfollow.mock.calls).toEqual([["j"]]);
    core.dispatch({ type: "entered", id: "b", phase: "waiting" });
    expect(live.follow).toHaveBeenCalledTimes(2);
    following.stop();
    expect(live.stop).toHaveBeenCalled();
  });

  test("speeds and time left are measured while something is sent", () => {
    vi.useFakeTimers();
    const core = coreOf(sent("a", { size: 10_000 }), itemOf("b"), itemOf("c", { phase: "paused" }));
    let now = 0;
    const ticks = vi.fn();
    const meter = new Meter(core, ticks, () => now);
    const advance = () => {
      now += 500;
      vi.advanceTimersByTime(500);
    };
    core.dispatch({ type: "entered", id: "b", phase: "paused" });
    core.dispatch({ type: "entered", id: "b", phase: "waiting" });
    for (let step = 1; step <= 8; step += 1) {
      core.dispatch({ type: "sent", id: "a", bytes: step * 500 });
      advance();
    }
    expect(ticks).toHaveBeenCalledTimes(8);
    const speed = core.item("a")?.bytesPerSecond ?? 0;
    expect(speed).toBeGreaterThan(900);
    expect(speed).toBeLessThan(1100);
    // 6,000 bytes of this one and 1,000 of the next; the paused one does not count.
    expect(core.state.summary.secondsLeft).toBeGreaterThanOrEqual(6);
    expect(core.state.summary.secondsLeft).toBeLessThanOrEqual(8);
    core.dispatch({ type: "entered", id: "a", phase: "completed" });
    advance();
    expect(core.state.summary).toMatchObject({ bytesPerSecond: null, secondsLeft: null });
    advance();
    expect(ticks).toHaveBeenCalledTimes(9);
    meter.stop();
    vi.useRealTimers();
  });

  test("at most so many at once, in order, whatever fails", async () => {
    const limiter = new Limiter(2);
    let now = 0;
    let most = 0;
    const done: number[] = [];
    const runs = Array.from({ length: 7 }, (_, index) =>
      limiter
        .run(async () => {
          now += 1;
          most = Math.max(most, now);
          await Promise.resolve();
          now -= 1;
          done.push(index);
          if (index === 2) throw new Error("no");
        })
        .catch(() => undefined),
    );
    await Promise.all(runs);
    expect(most).toBe(2);
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test("a picture is fetched once, for what is completed", async () => {
    const core = coreOf(sent("a", { phase: "completed" }), sent("b"));
    const get = vi.fn((photoId: string) =>
      Promise.resolve({
        photoId,
        jobId: "j",
        filename: "a.jpg",
        mimeType: "image/jpeg",
        bytes: 1,
        status: "COMPLETED" as const,
        reason: null,
        detail: null,
        tags: [],
        width: 1,
        height: 1,
        createdAt: "",
        completedAt: null,
        takenAt: null,
        exif: null,
        location: null,
        thumbnails: [
          {
            size: 256,
            width: 1,
            height: 1,
            mimeType: "image/webp",
            url: "https://store.test/1",
            expiresAt: "2999-01-01T00:00:00Z",
          },
        ],
      }),
    );
    const thumbnails = new Thumbnails(core, { get });
    thumbnails.request("a");
    thumbnails.request("a");
    thumbnails.request("b");
    await vi.waitFor(() => {
      expect(core.item("a")?.thumbnailUrl).toBe("https://store.test/1");
    });
    thumbnails.request("a");
    expect(get).toHaveBeenCalledTimes(1);
    thumbnails.stop();
  });
});
