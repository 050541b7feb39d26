/** What people do with uploads: all of it shows at once, and the gateway follows. */
import type { UploadActions, UploadItem, UploadPhase } from "@/stores/uploadTypes";
import type { Commands } from "./commands";
import type { EngineCore } from "./core";
import { ENDED, type UploadEvent } from "./events";
import type { Intake } from "./intake";
import type { Queue } from "./queue";

export interface ActionDeps {
  readonly core: EngineCore;
  readonly commands: Pick<Commands, "cancelPhoto" | "cancelJob" | "retry">;
  readonly intake: Pick<Intake, "add" | "provide">;
  readonly queue: Pick<Queue, "wake">;
}

/** Phases in which bytes are still to be sent. */
const UNSENT: ReadonlySet<UploadPhase> = new Set(["waiting", "sending", "paused", "needs-file"]);

export function createActions({ core, commands, intake, queue }: ActionDeps): UploadActions {
  const all = (wanted: (item: UploadItem) => boolean) =>
    [...core.state.items.values()].filter(wanted);
  const shown = (events: readonly UploadEvent[]) => {
    core.dispatchAll(events);
    core.show();
  };
  const entering = (items: readonly UploadItem[], phase: UploadPhase): UploadEvent[] =>
    items.map(({ id }) => ({ type: "entered", id, phase }));

  const pause = (items: readonly UploadItem[]) => {
    for (const { id } of items) core.interrupt(id);
    return entering(items, "paused");
  };
  const resume = (items: readonly UploadItem[]) => {
    for (const { id } of items) {
      const work = core.works.get(id);
      if (work !== undefined) work.notBefore = 0;
    }
    return entering(items, "waiting");
  };
  const cancel = (items: readonly UploadItem[]) => {
    for (const { id } of items) {
      core.interrupt(id);
      core.release(id);
    }
    shown(entering(items, "cancelled"));
  };
  const remove = (items: readonly UploadItem[]) => {
    shown([{ type: "removed", ids: items.map(({ id }) => id) }]);
    for (const { id, photoId, phase, thumbnailUrl } of items) {
      core.works.delete(id);
      if (thumbnailUrl?.startsWith("blob:") === true) URL.revokeObjectURL(thumbnailUrl);
      // One that failed here, not there, would keep its job open.
      if (phase === "failed" && photoId !== null) commands.cancelPhoto(photoId);
    }
  };
  const retryable = (item: UploadItem) =>
    item.phase === "failed" && item.failure?.canRetry === true;
  const one = (id: string, action: (item: UploadItem) => void) => {
    const item = core.item(id);
    if (item !== undefined) action(item);
  };

  return {
    add: (sources) => {
      intake.add(sources);
    },
    provide: (sources) => intake.provide(sources),
    pauseAll: () => {
      const items = all(({ phase }) => phase === "waiting" || phase === "sending");
      shown([{ type: "queue", isPaused: true }, ...pause(items)]);
    },
    resumeAll: () => {
      const items = all(({ phase }) => phase === "paused");
      shown([{ type: "queue", isPaused: false }, ...resume(items)]);
    },
    pause: (id) => {
      one(id, (item) => {
        if (item.phase === "waiting" || item.phase === "sending") shown(pause([item]));
      });
    },
    resume: (id) => {
      one(id, (item) => {
        if (item.phase === "paused") shown(resume([item]));
      });
    },
    cancel: (id) => {
      one(id, (item) => {
        if (ENDED.has(item.phase) && item.phase !== "failed") return;
        cancel([item]);
        if (item.photoId !== null) commands.cancelPhoto(item.photoId);
      });
    },
    cancelAll: () => {
      const items = all(({ phase }) => UNSENT.has(phase));
      cancel(items);
      const { whole, photos } = byJob(core, items);
      for (const jobId of whole) commands.cancelJob(jobId);
      for (const photoId of photos) commands.cancelPhoto(photoId);
    },
    retry: (id) => {
      one(id, (item) => {
        if (!retryable(item)) return;
        commands.retry(id);
        core.show();
      });
    },
    retryAll: () => {
      for (const { id } of all(retryable)) commands.retry(id);
      core.show();
    },
    clear: (id) => {
      one(id, (item) => {
        if (ENDED.has(item.phase)) remove([item]);
      });
    },
    clearEnded: () => {
      remove(all(({ phase }) => ENDED.has(phase)));
    },
    move: (id, beforeId) => {
      shown([{ type: "moved", id, beforeId }]);
    },
    setConcurrency: (uploads) => {
      shown([{ type: "concurrency", uploads }]);
      shown(sendBack(core));
      queue.wake();
    },
  };
}

/** Those beyond the limit wait again, the last ones of the queue. */
function sendBack(core: EngineCore): UploadEvent[] {
  const { state } = core;
  const excess = state.summary.uploading - state.concurrency;
  if (excess <= 0) return [];
  const sending = state.order.filter((id) => state.items.get(id)?.phase === "sending");
  return sending.slice(-excess).map((id) => {
    core.interrupt(id);
    return { type: "entered", id, phase: "waiting" };
  });
}

/** Jobs of which nothing but these items is open, and the photos of the other jobs. */
function byJob(
  core: EngineCore,
  items: readonly UploadItem[],
): { readonly whole: readonly string[]; readonly photos: readonly string[] } {
  const shared = new Set<string>();
  for (const item of core.state.items.values()) {
    if (item.jobId !== null && !ENDED.has(item.phase)) shared.add(item.jobId);
  }
  const whole = new Set<string>();
  const photos: string[] = [];
  for (const { jobId, photoId } of items) {
    if (jobId === null || photoId === null) continue;
    if (shared.has(jobId)) photos.push(photoId);
    else whole.add(jobId);
  }
  return { whole: [...whole], photos };
}
