/** What the gateway says of photos, live or asked for: it is right where the two differ. */
import type { JobView } from "@/lib/api/upload";
import type { LiveListener, ProgressUpdate } from "@/lib/websocket/types";
import type { UploadItem } from "@/stores/uploadTypes";
import type { EngineCore } from "./core";
import { failureOf } from "./decisions";
import { ENDED } from "./events";

/** The state of one photo, wherever it comes from. */
export interface PhotoNews {
  readonly photoId: string;
  readonly status: string;
  readonly reason: string | null;
  readonly detail: string | null;
  readonly bytesSent: number | null;
}

export interface Reconciler {
  readonly listener: LiveListener;
  /** Of `GET /queries/upload-jobs/{jobId}`: the whole truth at that time. */
  onJob(job: JobView): void;
  onGone(jobId: string): void;
}

export function createReconciler(core: EngineCore): Reconciler {
  /** Largest sequence that was seen of a photo: what comes late has no effect. */
  const sequences = new Map<string, number>();

  const isNews = (update: ProgressUpdate, photoId: string) => {
    const last = sequences.get(photoId) ?? 0;
    // Of a snapshot that is not complete yet it is 0, and says nothing of the order.
    if (update.sequence !== 0 && update.sequence <= last) return false;
    sequences.set(photoId, Math.max(last, update.sequence));
    return true;
  };
  const onUpdate = (update: ProgressUpdate) => {
    const { photoId, status, reason, bytesSent } = update;
    if (photoId === null || !isNews(update, photoId)) return;
    applyNews(core, { photoId, status, reason, detail: null, bytesSent });
  };
  const onGone = (jobId: string) => {
    for (const item of core.state.items.values()) {
      if (item.jobId === jobId) lose(core, item, "JOB_NOT_FOUND");
    }
  };
  const loseOthers = (jobId: string, known: ReadonlySet<string>) => {
    for (const item of core.state.items.values()) {
      if (item.jobId === jobId && item.photoId !== null && !known.has(item.photoId)) {
        lose(core, item, "PHOTO_NOT_FOUND");
      }
    }
  };
  return {
    onGone,
    onJob: (job) => {
      for (const photo of job.photos) {
        if (!photo.deleted) applyNews(core, photo);
      }
      loseOthers(
        job.jobId,
        new Set(job.photos.flatMap((each) => (each.deleted ? [] : [each.photoId]))),
      );
    },
    listener: {
      onChange: onUpdate,
      onGone,
      onSnapshot: (jobId, updates, complete) => {
        for (const update of updates) onUpdate(update);
        if (complete) loseOthers(jobId, new Set(updates.flatMap((each) => each.photoId ?? [])));
      },
      onTransport: (live) => {
        core.dispatch({ type: "transport", live });
      },
    },
  };
}

/** A photo that the gateway does not have: nothing of it can go on. */
function lose(core: EngineCore, item: UploadItem, reason: string): void {
  if (ENDED.has(item.phase)) return;
  core.interrupt(item.id);
  core.dispatch({ type: "entered", id: item.id, phase: "failed", failure: failureOf(reason) });
}

/** Milliseconds after a retry in which an answer from before it may still arrive. */
const FORMER_MS = 3000;

function isOfFormerAttempt(core: EngineCore, id: string): boolean {
  const work = core.works.get(id);
  return work !== undefined && (work.isHeld || Date.now() - work.retriedAt < FORMER_MS);
}

export function applyNews(core: EngineCore, news: PhotoNews): void {
  const id = core.idOf(news.photoId);
  const item = id === undefined ? undefined : core.item(id);
  if (id === undefined || item === undefined) return;
  switch (news.status) {
    case "QUEUED":
    case "UPLOADING":
      // Another page may be sending it, or this one did before a reload.
      if (item.phase === "needs-file" && news.bytesSent !== null) {
        core.dispatch({ type: "entered", id, phase: "needs-file", bytesSent: news.bytesSent });
      }
      return;
    case "PROCESSING":
      core.interrupt(id);
      core.dispatch({ type: "entered", id, phase: "processing" });
      core.release(id);
      return;
    case "COMPLETED":
      core.interrupt(id);
      core.dispatch({ type: "entered", id, phase: "completed" });
      core.release(id);
      return;
    case "FAILED":
      if (isOfFormerAttempt(core, id)) return;
      // What failed here has its reason, unless that only says that it has failed there.
      if (item.phase === "failed" && item.failure?.reason !== "PHOTO_ENDED") return;
      core.interrupt(id);
      core.dispatch({
        type: "entered",
        id,
        phase: "failed",
        failure: failureOf(news.reason ?? "UNKNOWN", news.detail),
      });
      return;
    case "CANCELLED":
      // One that failed here was cancelled there: the reason is what people want to know.
      if (item.phase === "failed") return;
      core.interrupt(id);
      core.dispatch({ type: "entered", id, phase: "cancelled" });
      core.release(id);
  }
}
