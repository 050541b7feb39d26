/** A store with made-up uploads, for the page of states and for tests of components. */
import { createStore } from "zustand/vanilla";
import type { UploadEngine } from "@/lib/engine/engine";
import { UNKNOWN_LIMITS } from "@/lib/engine/limits";
import type { UploadItem, UploadPhase, UploadState, UploadSummary } from "@/stores/uploadTypes";

export const SCENES = [
  "mixed",
  "sending",
  "paused",
  "completed",
  "failed",
  "processing",
  "needs-file",
] as const;

export type Scene = (typeof SCENES)[number];

const NAMES = [
  "IMG_2041.jpg",
  "DSC00871_Abendlicht über dem Hafen von Travemünde, letzte Aufnahme vor dem Regen (bearbeitet, Kopie 2).jpeg",
  "صورة العائلة في عيد الميلاد الأخير مع جدتي وجميع الأحفاد في البيت القديم.jpg",
  "תמונה משפחתית.png",
  "家族写真_京都_二〇二四年十一月_紅葉が一番きれいだった日の夕方.heic",
  "photo_without_extension",
  "👨‍👩‍👧‍👦 summer 🏖️.webp",
  "a.gif",
  "IMG_2042.jpg",
  "Screenshot 2026-11-30 at 15.04.12.png",
];

const MIXED: readonly UploadPhase[] = [
  "sending",
  "sending",
  "sending",
  "processing",
  "completed",
  "waiting",
  "paused",
  "failed",
  "rejected",
  "duplicate",
  "cancelled",
  "needs-file",
];

const FAILURES = ["TRUNCATED", "NOT_ARRIVED", "PHOTO_INFECTED", "SOMETHING_NEW"];

const OF_SCENE: Readonly<Record<Scene, readonly UploadPhase[]>> = {
  mixed: MIXED,
  sending: ["sending", "sending", "waiting"],
  paused: ["paused"],
  completed: ["completed"],
  failed: ["failed", "rejected", "completed"],
  processing: ["processing", "completed"],
  "needs-file": ["needs-file", "completed"],
};

/** A picture without a file: a gradient that differs with each number. */
function picture(index: number): string {
  const hue = (index * 47) % 360;
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><defs><linearGradient id="g" x2="1" y2="1">` +
    `<stop stop-color="hsl(${hue} 70% 62%)"/><stop offset="1" stop-color="hsl(${hue + 60} 60% 32%)"/>` +
    `</linearGradient></defs><rect width="8" height="8" fill="url(#g)"/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

export function sampleItem(index: number, phase: UploadPhase): UploadItem {
  const name = NAMES[index % NAMES.length] ?? "photo.jpg";
  const size = 1_000_000 + ((index * 1_337_331) % 9_000_000);
  const isSent = phase === "processing" || phase === "completed";
  const failure =
    phase === "failed"
      ? {
          reason: FAILURES[Math.floor(index / 3) % FAILURES.length] ?? "INTERNAL",
          detail: "The detail of the server, in English.",
          canRetry: index % 2 === 1,
        }
      : phase === "rejected"
        ? { reason: "UNSUPPORTED_CONTENT_TYPE", detail: null, canRetry: false }
        : null;
  return {
    id: `item-${index}`,
    batchId: "batch-1",
    name: index < NAMES.length ? name : name.replace(/(\.\w+)?$/, ` ${index}$1`),
    size,
    type: "image/jpeg",
    rank: 1_764_500_000_000 + index,
    phase,
    strategy: "multipart",
    bytesSent: isSent
      ? size
      : phase === "waiting"
        ? 0
        : Math.round(size * ((index * 0.17 + 0.2) % 1)),
    jobId: "job-1",
    photoId: isSent ? `photo-${index}` : null,
    attempt: 1,
    failure,
    bytesPerSecond: phase === "sending" ? 800_000 + index * 90_000 : null,
    thumbnailUrl: index % 4 === 3 || phase === "needs-file" ? null : picture(index),
  };
}

export function sampleItems(count: number, scene: Scene): readonly UploadItem[] {
  const phases = OF_SCENE[scene];
  return Array.from({ length: count }, (_, index) =>
    sampleItem(index, phases[index % phases.length] ?? "waiting"),
  );
}

export function summaryOf(items: Iterable<UploadItem>): UploadSummary {
  const all = [...items];
  const count = (...phases: UploadPhase[]) =>
    all.filter((item) => phases.includes(item.phase)).length;
  const counted = all.filter(
    (item) => !["cancelled", "rejected", "duplicate"].includes(item.phase),
  );
  const sum = (of: (item: UploadItem) => number) =>
    counted.reduce((total, item) => total + of(item), 0);
  const isSending = count("sending") > 0;
  return {
    total: all.length,
    waiting: count("waiting"),
    uploading: count("sending"),
    paused: count("paused"),
    processing: count("processing"),
    completed: count("completed"),
    failed: count("failed", "rejected"),
    cancelled: count("cancelled"),
    needsFile: count("needs-file"),
    bytesTotal: sum((item) => item.size),
    bytesSent: sum((item) => item.bytesSent),
    bytesPerSecond: isSending ? 12_400_000 : null,
    secondsLeft: isSending ? 95 : null,
  };
}

export type FakeUploads = UploadEngine & {
  /** Names and arguments of the actions that were asked for. */
  readonly calls: readonly (readonly [string, ...unknown[]])[];
  change(id: string, change: Partial<UploadItem>): void;
};

/** The state of a store with some items. */
export function stateOf(
  items: readonly UploadItem[],
  state: Partial<UploadState> = {},
): UploadState {
  return {
    items: new Map(items.map((item) => [item.id, item])),
    order: items.map((item) => item.id),
    summary: summaryOf(items),
    isPaused: false,
    concurrency: 100,
    isOnline: true,
    live: "stomp",
    limits: { ...UNKNOWN_LIMITS, maxPhotoBytes: 200 * 1024 ** 2 },
    ...state,
  };
}

/** Actions are noted, and those that are easy to make up are done. */
export function createFakeUploads(
  items: readonly UploadItem[],
  state: Partial<UploadState> = {},
): FakeUploads {
  const store = createStore<UploadState>(() => stateOf(items, state));
  const calls: (readonly [string, ...unknown[]])[] = [];
  const update = (change: (items: Map<string, UploadItem>) => void) => {
    const { items: before, order } = store.getState();
    const after = new Map(before);
    change(after);
    const stays = order.every((id) => after.has(id));
    store.setState({
      items: after,
      order: stays ? order : order.filter((id) => after.has(id)),
      summary: summaryOf(after.values()),
    });
  };
  const change = (id: string, changed: Partial<UploadItem>) => {
    update((all) => {
      const item = all.get(id);
      if (item) all.set(id, { ...item, ...changed });
    });
  };
  const note = (name: string, ...values: unknown[]) => {
    calls.push([name, ...values]);
  };
  const toPhase = (name: string, phase: UploadPhase) => (id: string) => {
    note(name, id);
    change(id, { phase, failure: null });
  };
  return {
    store,
    calls,
    change,
    add: (sources) => {
      note("add", sources);
    },
    pauseAll: () => {
      note("pauseAll");
      store.setState({ isPaused: true });
    },
    resumeAll: () => {
      note("resumeAll");
      store.setState({ isPaused: false });
    },
    pause: toPhase("pause", "paused"),
    resume: toPhase("resume", "waiting"),
    cancel: toPhase("cancel", "cancelled"),
    retry: toPhase("retry", "waiting"),
    cancelAll: () => {
      note("cancelAll");
    },
    retryAll: () => {
      note("retryAll");
    },
    clear: (id) => {
      note("clear", id);
      update((all) => all.delete(id));
    },
    clearEnded: () => {
      note("clearEnded");
    },
    move: (id, beforeId) => {
      note("move", id, beforeId);
      const rest = store.getState().order.filter((one) => one !== id);
      const index = beforeId === null ? rest.length : rest.indexOf(beforeId);
      store.setState({ order: [...rest.slice(0, index), id, ...rest.slice(index)] });
    },
    setConcurrency: (uploads) => {
      note("setConcurrency", uploads);
    },
    provide: (files) => {
      note("provide", files);
      return Promise.resolve([]);
    },
    listener: {
      onSnapshot: () => undefined,
      onChange: () => undefined,
      onTransport: () => undefined,
      onGone: () => undefined,
    },
    setLimits: (limits) => {
      store.setState({ limits });
    },
    onBatchEnd: () => () => undefined,
    requestThumbnail: () => undefined,
    start: () => Promise.resolve(),
    stop: () => undefined,
    forget: () => Promise.resolve(),
  };
}
