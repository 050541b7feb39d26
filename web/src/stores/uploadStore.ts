/** The store of all uploads, outside React, so that a row is drawn again only if it has changed. */
import { type StoreApi, createStore } from "zustand/vanilla";
import { ENDED } from "@/lib/engine/events";
import { INITIAL_STATE } from "@/lib/engine/reducer";
import type { UploadItem, UploadPhase, UploadState, UploadSummary } from "./uploadTypes";

export type UploadStore = StoreApi<UploadState>;

/** Changed by the engine only, once a frame at most. */
export function createUploadStore(state: UploadState = INITIAL_STATE): UploadStore {
  return createStore<UploadState>(() => state);
}

export const selectSummary = (state: UploadState): UploadSummary => state.summary;
export const selectOrder = (state: UploadState): readonly string[] => state.order;
export const selectItem =
  (id: string) =>
  (state: UploadState): UploadItem | undefined =>
    state.items.get(id);

/** Tabs of the panel. */
export type UploadFilter = "all" | "active" | "completed" | "failed";

const ACTIVE: ReadonlySet<UploadPhase> = new Set([
  "waiting",
  "sending",
  "paused",
  "needs-file",
  "processing",
]);
const FAILED: ReadonlySet<UploadPhase> = new Set(["failed", "rejected"]);

export function isShown(item: UploadItem, filter: UploadFilter): boolean {
  if (filter === "active") return ACTIVE.has(item.phase);
  if (filter === "completed") return item.phase === "completed";
  return filter === "all" || FAILED.has(item.phase);
}

/** Ids of a tab in the order of the queue; the same array while they are the same. */
export function createFilteredIds(): (
  state: UploadState,
  filter: UploadFilter,
) => readonly string[] {
  let last: readonly string[] = [];
  return (state, filter) => {
    const ids =
      filter === "all"
        ? state.order
        : state.order.filter((id) => {
            const item = state.items.get(id);
            return item !== undefined && isShown(item, filter);
          });
    const isSame = ids.length === last.length && ids.every((id, index) => id === last[index]);
    if (!isSame) last = ids;
    return last;
  };
}

/** How many each tab has. */
export function countsOf(summary: UploadSummary): Readonly<Record<UploadFilter, number>> {
  return {
    all: summary.total,
    active:
      summary.waiting + summary.uploading + summary.paused + summary.needsFile + summary.processing,
    completed: summary.completed,
    failed: summary.failed,
  };
}

export function hasEnded(item: UploadItem): boolean {
  return ENDED.has(item.phase);
}
