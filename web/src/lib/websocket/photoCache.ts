/** Live updates in the cache of queries: states at once, everything else by asking again. */
import type { LiveListener, ProgressUpdate } from "./types";

/** The part of TanStack's `QueryClient` that is used. */
export interface PhotoCache {
  setQueriesData(
    filters: { readonly queryKey: readonly unknown[] },
    updater: (data: unknown) => unknown,
  ): unknown;
  invalidateQueries(filters: { readonly queryKey: readonly unknown[] }): Promise<void>;
}

/** Between two invalidations: a hundred photos that complete together ask once. Milliseconds. */
const INVALIDATE_MS = 1_000;
/** Heads of the keys whose data has photos: lists, and single ones. */
const KEYS = ["photos", "photo"] as const;
const ENDS: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

/**
 * Return a listener that brings updates into the cache and passes them on.
 *
 * `stop` ends what is due. Rejections of queries that are asked again are the queries' own.
 */
export function withPhotoCache(
  listener: LiveListener,
  cache: PhotoCache,
): LiveListener & { stop(): void } {
  const open = new Set<string>();
  const invalidate = throttled(() => {
    for (const key of KEYS) void cache.invalidateQueries({ queryKey: [key] });
  }, INVALIDATE_MS);

  const take = (updates: readonly ProgressUpdate[], isSnapshot: boolean): void => {
    const statuses = new Map<string, string>();
    let hasEnded = false;
    for (const { photoId, status } of updates) {
      if (photoId === null) continue;
      if (ENDS.has(status)) {
        // A snapshot has those that ended long ago, too.
        const wasOpen = open.delete(photoId);
        hasEnded ||= wasOpen || !isSnapshot;
      } else open.add(photoId);
      // A completed photo has thumbnails, which come with the answer.
      if (status !== "COMPLETED") statuses.set(photoId, status);
    }
    if (statuses.size > 0) {
      const update = (data: unknown): unknown => withStatuses(data, statuses);
      for (const key of KEYS) cache.setQueriesData({ queryKey: [key] }, update);
    }
    if (hasEnded) invalidate.run();
  };
  return {
    onSnapshot(jobId, updates, complete) {
      take(updates, true);
      listener.onSnapshot(jobId, updates, complete);
    },
    onChange(update) {
      take([update], false);
      listener.onChange(update);
    },
    onTransport(transport) {
      listener.onTransport(transport);
    },
    onGone(jobId) {
      listener.onGone(jobId);
    },
    stop() {
      invalidate.stop();
    },
  };
}

/**
 * Return the data of a query with other states of its photos, the same object if none is another.
 *
 * @param data - a photo, a page with `items`, or `pages` of them; anything else stays as it is.
 * @param statuses - by the id of the photo.
 */
export function withStatuses(data: unknown, statuses: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(data)) {
    const given: readonly unknown[] = data;
    const items = given.map((item) => withStatuses(item, statuses));
    return items.some((item, index) => item !== given[index]) ? items : data;
  }
  if (!isMembers(data)) return data;
  const { photoId } = data;
  if (typeof photoId === "string") {
    const status = statuses.get(photoId);
    return status === undefined || status === data["status"] ? data : { ...data, status };
  }
  for (const name of ["pages", "items"]) {
    if (!Array.isArray(data[name])) continue;
    const inner = withStatuses(data[name], statuses);
    return inner === data[name] ? data : { ...data, [name]: inner };
  }
  return data;
}

/** Run at once, then at most once in each interval. */
function throttled(run: () => void, ms: number): { run(): void; stop(): void } {
  let timer: ReturnType<typeof setTimeout> | null = null;
  let isDue = false;
  const start = (): void => {
    isDue = false;
    timer = setTimeout(() => {
      timer = null;
      if (isDue) start();
    }, ms);
    run();
  };
  return {
    run() {
      if (timer === null) start();
      else isDue = true;
    },
    stop() {
      if (timer !== null) clearTimeout(timer);
      timer = null;
    },
  };
}

function isMembers(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
