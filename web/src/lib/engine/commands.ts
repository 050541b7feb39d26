/** What people ask of the gateway: to cancel and to retry. Done in the background, until done. */
import { ApiError, NetworkError, isAbort } from "@/lib/api/errors";
import { type RepeatOptions, isPassing, repeated } from "@/lib/api/repeat";
import { SessionEnded } from "@/lib/api/session";
import { type UploadCalls, newKey } from "@/lib/api/upload";
import type { EngineCore } from "./core";
import { decide, failureOf } from "./decisions";
import { strategyFrom } from "./jobs";
import { strategyWithoutTus } from "./precheck";
import { Limiter } from "./limiter";

export interface CommandsDeps {
  readonly core: EngineCore;
  readonly calls: UploadCalls;
  readonly onNetworkError: () => void;
  readonly onSessionEnded: () => void;
  readonly repeat?: RepeatOptions;
  readonly now?: () => number;
}

/** Calls at once: the others of the page have to get through. */
const AT_ONCE = 3;
/** After which a retry asks for another job. */
const NEEDS_NEW_JOB: ReadonlySet<string> = new Set([
  "PHOTO_NOT_FOUND",
  "JOB_NOT_FOUND",
  "OBJECT_DELETED",
  "REPROCESSING_DISABLED",
  "OBJECT_MISSING",
]);

export class Commands {
  private readonly limiter = new Limiter(AT_ONCE);
  private readonly stopped = new AbortController();

  constructor(private readonly deps: CommandsDeps) {}

  stop(): void {
    this.stopped.abort();
  }

  /** The gateway hears of it, however long that takes while the page is open. */
  cancelPhoto(photoId: string): void {
    const key = newKey();
    void this.run(async () => {
      try {
        await this.deps.calls.cancel(photoId, key, this.stopped.signal);
      } catch (error) {
        if (!(error instanceof ApiError) || isPassing(error)) throw error;
        const id = this.deps.core.idOf(photoId);
        const decision = decide(error);
        if (id !== undefined && decision.next === "completed") {
          this.deps.core.dispatch({ type: "entered", id, phase: "completed" });
        }
      }
    });
  }

  cancelJob(jobId: string): void {
    const key = newKey();
    void this.run(async () => {
      try {
        const job = await this.deps.calls.cancelJob(jobId, key, this.stopped.signal);
        for (const photo of job.photos) {
          const id = this.deps.core.idOf(photo.photoId);
          if (id !== undefined && photo.status === "COMPLETED") {
            this.deps.core.dispatch({ type: "entered", id, phase: "completed" });
          }
        }
      } catch (error) {
        // A job that is unknown has nothing to cancel.
        if (!(error instanceof ApiError) || isPassing(error)) throw error;
      }
    });
  }

  /**
   * Give a photo that failed another attempt: its bytes again, or its processing if they are
   * there, or a new job. Its item is `waiting` and held until the gateway has answered.
   */
  retry(id: string): void {
    const { core } = this.deps;
    const item = core.item(id);
    const work = core.works.get(id);
    if (item === undefined || work === undefined) return;
    work.isHeld = true;
    work.notBefore = 0;
    work.failures = 0;
    core.dispatch(
      { type: "entered", id, phase: "waiting", bytesSent: 0 },
      { type: "attempted", id },
    );
    const { photoId } = item;
    if (photoId === null) {
      this.restart(id);
      return;
    }
    const key = newKey();
    void this.run(() => this.reopen(id, photoId, key)).catch((error: unknown) => {
      work.isHeld = false;
      if (isAbort(error)) return;
      const reason = error instanceof ApiError ? error.reason : "UNKNOWN";
      const detail = error instanceof ApiError ? error.detail : null;
      core.dispatch({ type: "entered", id, phase: "failed", failure: failureOf(reason, detail) });
    });
  }

  private async reopen(id: string, photoId: string, key: string): Promise<void> {
    const { calls, now = Date.now } = this.deps;
    try {
      const signedAt = now();
      const sent = await calls.retry(photoId, key, this.stopped.signal);
      const { core } = this.deps;
      const work = core.works.get(id);
      const item = core.item(id);
      if (work === undefined || item?.jobId == null) return;
      work.ticket = { item: sent, signedAt };
      work.tusUrl = null;
      const strategy = strategyFrom(sent);
      core.dispatch({ type: "assigned", id, jobId: item.jobId, photoId, strategy });
      this.goOn(id);
    } catch (error) {
      if (!(error instanceof ApiError) || isPassing(error)) throw error;
      await this.reopenOtherwise(id, photoId, key, error);
    }
  }

  private async reopenOtherwise(
    id: string,
    photoId: string,
    key: string,
    error: ApiError,
  ): Promise<void> {
    const { core, calls } = this.deps;
    const status = error.metadata["status"];
    if (error.reason === "OBJECT_EXISTS") {
      await this.reprocess(id, photoId, `${key}.reprocess`);
    } else if (error.reason === "PHOTO_NOT_FAILED") {
      const jobId = core.item(id)?.jobId;
      const job = jobId == null ? null : await calls.getJob(jobId, this.stopped.signal);
      const photo = job?.photos.find((each) => each.photoId === photoId);
      if (photo?.status === "PROCESSING") this.enter(id, "processing");
      else if (photo?.status === "COMPLETED") this.enter(id, "completed");
      else this.goOn(id);
    } else if (error.reason === "PHOTO_ENDED" && status === "COMPLETED") {
      this.enter(id, "completed");
    } else if (error.reason === "PHOTO_ENDED" || NEEDS_NEW_JOB.has(error.reason)) {
      this.restart(id);
    } else throw error;
  }

  private async reprocess(id: string, photoId: string, key: string): Promise<void> {
    try {
      await this.deps.calls.reprocess(photoId, key, this.stopped.signal);
      this.enter(id, "processing");
    } catch (error) {
      if (!(error instanceof ApiError) || !NEEDS_NEW_JOB.has(error.reason)) throw error;
      this.restart(id);
    }
  }

  /** In a new job, with its bytes. */
  private restart(id: string): void {
    const { core } = this.deps;
    const item = core.item(id);
    const work = core.works.get(id);
    if (item === undefined || work === undefined) return;
    work.ticket = null;
    work.tusUrl = null;
    const strategy =
      item.strategy === "tus" ? "tus" : strategyWithoutTus(item.size, core.state.limits);
    core.dispatch({ type: "unassigned", id, strategy });
    this.goOn(id);
  }

  private goOn(id: string): void {
    const { core } = this.deps;
    const work = core.works.get(id);
    if (work === undefined) return;
    work.isHeld = false;
    work.retriedAt = Date.now();
    if (work.file === null) core.dispatch({ type: "entered", id, phase: "needs-file" });
    core.onReady();
  }

  private enter(id: string, phase: "processing" | "completed"): void {
    const { core } = this.deps;
    const work = core.works.get(id);
    if (work !== undefined) work.isHeld = false;
    core.dispatch({ type: "entered", id, phase });
    core.release(id);
  }

  private run(command: () => Promise<void>): Promise<void> {
    const { onNetworkError, onSessionEnded, repeat } = this.deps;
    return this.limiter.run(() =>
      repeated(
        async () => {
          try {
            await command();
          } catch (error) {
            if (error instanceof SessionEnded) {
              onSessionEnded();
              // Passing: somebody logs in again, and the command is still wanted.
              throw new NetworkError(false, { cause: error });
            }
            if (error instanceof NetworkError) onNetworkError();
            throw error;
          }
        },
        { tries: Infinity, ...repeat, signal: this.stopped.signal },
      ),
    );
  }
}
