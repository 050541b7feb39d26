/** The state of all uploads after an event. Pure: unchanged items keep their identity. */
import type { UploadItem, UploadState } from "@/stores/uploadTypes";
import { TRANSITIONS, type UploadEvent } from "./events";
import { UNKNOWN_LIMITS } from "./limits";
import { EMPTY_SUMS, type MutableSums, count } from "./summary";

export const MAX_CONCURRENCY = 100;

export const INITIAL_STATE: UploadState = {
  items: new Map(),
  order: [],
  summary: { ...EMPTY_SUMS, bytesPerSecond: null, secondsLeft: null },
  isPaused: false,
  concurrency: MAX_CONCURRENCY,
  isOnline: true,
  live: "connecting",
  limits: UNKNOWN_LIMITS,
};

export function reduce(state: UploadState, event: UploadEvent): UploadState {
  return reduceAll(state, [event]);
}

/** Apply events in their order. The map of items is copied once at most. */
export function reduceAll(state: UploadState, events: readonly UploadEvent[]): UploadState {
  const draft = new Draft(state);
  for (const event of events) apply(draft, event);
  return draft.finished();
}

/** A state that is being changed: what it takes from the former one it never writes to. */
class Draft {
  private copy: Map<string, UploadItem> | null = null;
  private sums: MutableSums | null = null;
  private rest: Partial<Omit<UploadState, "items" | "summary">> = {};
  private measured: Pick<UploadState["summary"], "bytesPerSecond" | "secondsLeft"> | null = null;

  constructor(private readonly state: UploadState) {}

  get items(): ReadonlyMap<string, UploadItem> {
    return this.copy ?? this.state.items;
  }

  get order(): readonly string[] {
    return this.rest.order ?? this.state.order;
  }

  /** Replace, add, or remove by null. */
  set(id: string, item: UploadItem | null): void {
    const before = this.items.get(id);
    if (before === item) return;
    this.copy ??= new Map(this.state.items);
    this.sums ??= { ...this.state.summary };
    if (before !== undefined) count(this.sums, before, -1);
    if (item === null) this.copy.delete(id);
    else {
      this.copy.set(id, item);
      count(this.sums, item, 1);
    }
  }

  patch(id: string, changes: Partial<UploadItem>): void {
    const item = this.items.get(id);
    if (item !== undefined && differs(item, changes)) this.set(id, { ...item, ...changes });
  }

  change(changes: Partial<Omit<UploadState, "items" | "summary">>): void {
    if (differs({ ...this.state, ...this.rest }, changes)) this.rest = { ...this.rest, ...changes };
  }

  measure(measured: Pick<UploadState["summary"], "bytesPerSecond" | "secondsLeft">): void {
    if (differs({ ...this.state.summary, ...this.measured }, measured)) this.measured = measured;
  }

  finished(): UploadState {
    const isChanged =
      this.copy !== null || this.measured !== null || Object.keys(this.rest).length > 0;
    if (!isChanged) return this.state;
    const summary =
      this.sums === null && this.measured === null
        ? this.state.summary
        : { ...this.state.summary, ...this.sums, ...this.measured };
    return { ...this.state, ...this.rest, items: this.items, summary };
  }
}

function differs<T extends object>(current: T, changes: Partial<T>): boolean {
  return Object.entries(changes).some(([name, value]) => Reflect.get(current, name) !== value);
}

function apply(draft: Draft, event: UploadEvent): void {
  switch (event.type) {
    case "added":
      add(draft, event.items);
      return;
    case "removed":
      remove(draft, event.ids);
      return;
    case "moved":
      move(draft, event.id, event.beforeId);
      return;
    case "entered":
      enter(draft, event);
      return;
    case "sent": {
      const item = draft.items.get(event.id);
      if (item?.phase === "sending") {
        draft.patch(event.id, { bytesSent: clamped(event.bytes, item.size) });
      }
      return;
    }
    case "assigned": {
      const { jobId, photoId, strategy } = event;
      draft.patch(event.id, { jobId, photoId, strategy });
      return;
    }
    case "unassigned":
      draft.patch(event.id, { jobId: null, photoId: null, strategy: event.strategy });
      return;
    case "attempted": {
      const item = draft.items.get(event.id);
      if (item !== undefined) draft.patch(event.id, { attempt: item.attempt + 1 });
      return;
    }
    case "measured":
      for (const [id, bytesPerSecond] of event.speeds) {
        if (draft.items.get(id)?.phase === "sending") draft.patch(id, { bytesPerSecond });
      }
      draft.measure({ bytesPerSecond: event.bytesPerSecond, secondsLeft: event.secondsLeft });
      return;
    case "pictured":
      draft.patch(event.id, { thumbnailUrl: event.url });
      return;
    case "queue":
      draft.change({ isPaused: event.isPaused });
      return;
    case "concurrency":
      draft.change({
        concurrency: Math.min(MAX_CONCURRENCY, Math.max(1, Math.floor(event.uploads))),
      });
      return;
    case "limits":
      draft.change({ limits: event.limits });
      return;
    case "network":
      draft.change({ isOnline: event.isOnline });
      return;
    case "transport":
      draft.change({ live: event.live });
  }
}

function add(draft: Draft, items: readonly UploadItem[]): void {
  const fresh = items.filter((item) => !draft.items.has(item.id));
  if (fresh.length === 0) return;
  for (const item of fresh) draft.set(item.id, item);
  const order = [...draft.order, ...fresh.map((item) => item.id)];
  const rankOf = (id: string | undefined) => draft.items.get(id ?? "")?.rank ?? 0;
  // Uploads of before a reload come after files that were added meanwhile, and stand before them.
  const isSorted = fresh.every(
    ({ rank: each }, index) =>
      draft.order.length + index === 0 || rankOf(order[draft.order.length + index - 1]) <= each,
  );
  const ranked = () => order.toSorted((one, other) => rankOf(one) - rankOf(other));
  draft.change({ order: isSorted ? order : ranked() });
}

function remove(draft: Draft, ids: readonly string[]): void {
  const gone = new Set(ids.filter((id) => draft.items.has(id)));
  if (gone.size === 0) return;
  for (const id of gone) draft.set(id, null);
  draft.change({ order: draft.order.filter((id) => !gone.has(id)) });
}

function move(draft: Draft, id: string, beforeId: string | null): void {
  if (id === beforeId || !draft.items.has(id)) return;
  const rest = draft.order.filter((each) => each !== id);
  const at = beforeId === null ? rest.length : rest.indexOf(beforeId);
  if (at < 0) return;
  const order = rest.toSpliced(at, 0, id);
  if (!order.some((each, index) => each !== draft.order[index])) return;
  draft.change({ order });
  rank(draft, order, at);
}

/** Give the item at this place a rank between its neighbours; all of them, if there is no room. */
function rank(draft: Draft, order: readonly string[], at: number): void {
  const rankAt = (index: number) => draft.items.get(order[index] ?? "")?.rank;
  const [before, after] = [rankAt(at - 1), rankAt(at + 1)];
  const [low, high] = [before ?? (after ?? 0) - 2, after ?? (before ?? 0) + 2];
  const between = (low + high) / 2;
  if (low < between && between < high) {
    draft.patch(order[at] ?? "", { rank: between });
    return;
  }
  let first = Infinity;
  order.forEach((_, index) => {
    first = Math.min(first, rankAt(index) ?? 0);
  });
  order.forEach((id, index) => {
    draft.patch(id, { rank: first + index });
  });
}

function enter(draft: Draft, event: Extract<UploadEvent, { readonly type: "entered" }>): void {
  const item = draft.items.get(event.id);
  if (item === undefined || !TRANSITIONS[item.phase].has(event.phase)) return;
  const hasAll = event.phase === "processing" || event.phase === "completed";
  const bytesSent = hasAll ? item.size : clamped(event.bytesSent ?? item.bytesSent, item.size);
  const hasFailed = event.phase === "failed" || event.phase === "rejected";
  draft.patch(event.id, {
    phase: event.phase,
    bytesSent,
    bytesPerSecond: null,
    failure: hasFailed ? (event.failure ?? UNKNOWN_FAILURE) : null,
  });
}

const UNKNOWN_FAILURE = { reason: "UNKNOWN", detail: null, canRetry: true };

function clamped(bytes: number, size: number): number {
  return Number.isFinite(bytes) ? Math.min(size, Math.max(0, Math.floor(bytes))) : 0;
}
