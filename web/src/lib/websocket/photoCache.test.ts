import { QueryClient } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RecordingListener, update } from "../../../tests/live/updates";
import { withPhotoCache, withStatuses } from "./photoCache";

const photo = (photoId: string, status: string) => ({ photoId, status, tags: ["a"] });

describe("statuses in the data of queries", () => {
  const statuses = new Map([["p1", "PROCESSING"]]);

  it("change in photos, pages and lists of pages, and nowhere else", () => {
    const other = photo("p2", "QUEUED");
    const pages = { pages: [{ items: [photo("p1", "QUEUED"), other] }], pageParams: [null] };
    const changed = withStatuses(pages, statuses);
    expect(changed).toEqual({
      pages: [{ items: [photo("p1", "PROCESSING"), other] }],
      pageParams: [null],
    });
    expect(withStatuses(photo("p1", "QUEUED"), statuses)).toEqual(photo("p1", "PROCESSING"));
  });

  it("leave the same object where nothing changes", () => {
    for (const data of [
      undefined,
      null,
      "text",
      { pages: [{ items: [photo("p1", "PROCESSING"), photo("p2", "QUEUED")] }] },
      { items: [] },
      photo("p3", "QUEUED"),
    ]) {
      expect(withStatuses(data, statuses)).toBe(data);
    }
  });
});

describe("photo cache", () => {
  let queries: QueryClient;
  let listener: RecordingListener;
  let asked: unknown[];

  beforeEach(() => {
    vi.useFakeTimers();
    queries = new QueryClient();
    listener = new RecordingListener();
    asked = [];
    vi.spyOn(queries, "invalidateQueries").mockImplementation((filters) => {
      asked.push(filters?.queryKey?.[0]);
      return Promise.resolve();
    });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("shows states at once, and asks again when photos have ended", () => {
    queries.setQueryData(["photos", {}], { pages: [{ items: [photo("p1", "QUEUED")] }] });
    queries.setQueryData(["photo", "p1"], photo("p1", "QUEUED"));
    const cached = withPhotoCache(listener, queries);
    cached.onChange(update({ status: "PROCESSING" }));
    expect(queries.getQueryData(["photo", "p1"])).toEqual(photo("p1", "PROCESSING"));
    expect(queries.getQueryData(["photos", {}])).toEqual({
      pages: [{ items: [photo("p1", "PROCESSING")] }],
    });
    expect(asked).toEqual([]);
    cached.onChange(update({ status: "COMPLETED" }));
    expect(asked).toEqual(["photos", "photo"]);
    expect(listener.changes).toHaveLength(2);
  });

  it("asks at most once a second, and once more for the last ones", () => {
    const cached = withPhotoCache(listener, queries);
    for (let number = 0; number < 100; number += 1) {
      cached.onChange(update({ photoId: `p${String(number)}`, status: "COMPLETED" }));
    }
    expect(asked).toHaveLength(2);
    vi.advanceTimersByTime(1_000);
    expect(asked).toHaveLength(4);
    vi.advanceTimersByTime(10_000);
    expect(asked).toHaveLength(4);
    cached.stop();
    expect(vi.getTimerCount()).toBe(0);
  });

  it("asks for what ended while nobody listened, not for what had ended before", () => {
    const cached = withPhotoCache(listener, queries);
    const ended = update({ photoId: "p1", status: "COMPLETED" });
    cached.onSnapshot("j1", [ended, update({ photoId: "p2" })], true);
    expect(asked).toEqual([]);
    cached.onSnapshot("j1", [ended, update({ photoId: "p2", status: "FAILED" })], true);
    expect(asked).toEqual(["photos", "photo"]);
    expect(listener.snapshots).toHaveLength(2);
  });

  it("passes everything else on", () => {
    const cached = withPhotoCache(listener, queries);
    cached.onTransport("sse");
    cached.onGone("j1");
    expect([listener.transports, listener.gone]).toEqual([["sse"], ["j1"]]);
  });
});
