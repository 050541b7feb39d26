/**
 * Deletions that can be taken back: a photo is hidden at once, and deleted when its time to undo
 * has passed or the page is left. If the browser is killed before, the photo is still there.
 */
import { createStore, type StoreApi } from "zustand/vanilla";

export interface DeletionDeps {
  /** Delete a photo. A photo that is gone already is deleted. */
  remove(photoId: string): Promise<void>;
  /** Delete a photo while the page goes: a request that outlives it, with a token that is known. */
  removeOnLeave(photoId: string, token: string | null): void;
  token(): Promise<string | null>;
  /** Some photos could not be deleted, and are shown again. */
  onFailed(photoIds: readonly string[], error: unknown): void;
  onRemoved(photoIds: readonly string[]): void;
}

interface HiddenPhotos {
  /** Photos that wait for their deletion, or are deleted. */
  readonly hidden: ReadonlySet<string>;
}

export interface Deletions {
  readonly store: StoreApi<HiddenPhotos>;
  /** Hide photos; returns a number by which their deletion is undone or committed. */
  schedule(photoIds: readonly string[]): number;
  undo(batch: number): void;
  /** Undo the latest one; returns its number, or null if none waits. */
  undoLatest(): number | null;
  /** Delete them now. Resolves when all answers are there; errors go to `onFailed`. */
  commit(batch: number): Promise<void>;
  /** Delete all that wait, while the page goes. */
  flush(): void;
}

/** Deletions at once: a selection of hundreds must not queue up before other requests. */
const AT_ONCE = 4;

export function createDeletions(deps: DeletionDeps): Deletions {
  const store = createStore<HiddenPhotos>(() => ({ hidden: new Set() }));
  const waiting = new Map<number, readonly string[]>();
  let latest = 0;
  // Of the time of the order: while a page goes there is no time to wait for a token.
  let token: string | null = null;

  const hide = (ids: readonly string[]) => {
    store.setState(({ hidden }) => ({ hidden: new Set([...hidden, ...ids]) }));
  };
  const show = (ids: readonly string[]) => {
    const shown = new Set(ids);
    store.setState(({ hidden }) => ({
      hidden: new Set([...hidden].filter((id) => !shown.has(id))),
    }));
  };

  const undo = (batch: number) => {
    const ids = waiting.get(batch);
    if (ids === undefined) return;
    waiting.delete(batch);
    show(ids);
  };

  return {
    store,
    schedule(photoIds) {
      latest += 1;
      waiting.set(latest, photoIds);
      hide(photoIds);
      deps.token().then(
        (found) => {
          token = found;
        },
        () => undefined, // the deletion itself shows that nobody is logged in any more
      );
      return latest;
    },
    undo,
    undoLatest() {
      const batch = [...waiting.keys()].at(-1) ?? null;
      if (batch !== null) undo(batch);
      return batch;
    },
    async commit(batch) {
      const ids = waiting.get(batch);
      if (ids === undefined) return;
      waiting.delete(batch);
      const failed: string[] = [];
      let firstError: unknown;
      await forEachLimited(ids, AT_ONCE, async (id) => {
        try {
          await deps.remove(id);
        } catch (error) {
          firstError ??= error;
          failed.push(id);
        }
      });
      const removed = ids.filter((id) => !failed.includes(id));
      if (removed.length > 0) deps.onRemoved(removed);
      if (failed.length === 0) return;
      show(failed);
      deps.onFailed(failed, firstError);
    },
    flush() {
      const ids = [...waiting.values()].flat();
      waiting.clear();
      for (const id of ids) deps.removeOnLeave(id, token);
    },
  };
}

/** Run work for each item, a limited number at once. Rejects with the first error of the work. */
export async function forEachLimited<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const lane = async () => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, lane));
}
