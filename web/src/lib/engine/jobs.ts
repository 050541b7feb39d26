/** Creation of jobs: one for a batch, several for more than 1,000 files. */
import { ApiError, NetworkError, isAbort } from "@/lib/api/errors";
import { isPassing } from "@/lib/api/repeat";
import { SessionEnded } from "@/lib/api/session";
import {
  type FileBody,
  type NewJobView,
  type UploadCalls,
  type UploadItemView,
  newKey,
} from "@/lib/api/upload";
import type { UploadItem, UploadStrategy } from "@/stores/uploadTypes";
import { type Backoff, delayOf } from "./backoff";
import type { EngineCore } from "./core";
import { failureOf } from "./decisions";
import { type UploadEvent, WITHOUT_JOB } from "./events";
import { limitOf, sentName, strategyWithoutTus } from "./precheck";
import { type JobPlan, planJobs } from "./scheduler";

export interface JobCreatorDeps {
  readonly core: EngineCore;
  readonly calls: UploadCalls;
  /** Nobody is logged in. */
  readonly isBlocked: () => boolean;
  readonly onNetworkError: () => void;
  readonly onSessionEnded: () => void;
  /** A photo was created for an item that is not wanted any more. */
  readonly onUnwanted: (photoId: string) => void;
  /** The gateway has said how large a photo may be. */
  readonly onLimit: (maxBytes: number) => void;
  readonly now?: () => number;
}

interface Unit {
  readonly ids: JobPlan;
  readonly files: readonly FileBody[];
  readonly isTus: boolean;
  key: string;
  /** An answer was lost: the job may be there, so that only a repeat tells its photos. */
  mayExist: boolean;
}

/** Refusals before anything was done. */
const FOR_NOW: ReadonlySet<number> = new Set([429, 503]);
const BACKOFF: Backoff = { baseMs: 1000, capMs: 30_000 };

export class JobCreator {
  private unit: Unit | null = null;
  private isBusy = false;
  private failures = 0;
  private notBefore = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private readonly stopped = new AbortController();
  private readonly now: () => number;

  constructor(private readonly deps: JobCreatorDeps) {
    this.now = deps.now ?? Date.now;
  }

  /** Create what is needed, one job after the other. */
  pump(): void {
    const { core } = this.deps;
    if (this.isBusy || this.stopped.signal.aborted) return;
    if (!core.state.isOnline || this.deps.isBlocked()) return;
    if (this.unit === null && !core.hasJobless) return;
    const delayMs = this.notBefore - this.now();
    if (delayMs > 0) {
      this.timer ??= setTimeout(() => {
        this.timer = null;
        this.pump();
      }, delayMs);
      return;
    }
    if (this.unit !== null && !this.isWanted(this.unit)) this.unit = null;
    this.unit ??= this.nextUnit();
    if (this.unit === null) return;
    this.isBusy = true;
    void this.create(this.unit).finally(() => {
      this.isBusy = false;
      this.pump();
    });
  }

  stop(): void {
    this.stopped.abort();
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private nextUnit(): Unit | null {
    const { core } = this.deps;
    const needsJob = (item: UploadItem) =>
      WITHOUT_JOB.has(item.phase) && core.works.get(item.id)?.isHeld !== true;
    const ids = planJobs(core.state, needsJob)[0];
    if (ids === undefined) return null;
    const items = ids.flatMap((id) => core.item(id) ?? []);
    return {
      ids,
      files: items.map((item) => ({
        filename: sentName(item.name),
        mimeType: typeFor(item),
        bytes: item.size,
      })),
      isTus: items[0]?.strategy === "tus",
      // The same one for all tries: a lost answer makes no second job.
      key: newKey(),
      mayExist: false,
    };
  }

  /** Not if all of it was cancelled while the gateway took no job. */
  private isWanted(unit: Unit): boolean {
    if (unit.mayExist) return true;
    return unit.ids.some((id) => WITHOUT_JOB.has(this.deps.core.item(id)?.phase ?? "cancelled"));
  }

  private async create(unit: Unit): Promise<void> {
    const { calls } = this.deps;
    const strategy = unit.isTus ? "tus" : "s3-presigned";
    try {
      const signedAt = this.now();
      const job = await calls.createJob(unit.files, strategy, unit.key, this.stopped.signal);
      this.unit = null;
      this.failures = 0;
      this.assign(unit, job, signedAt);
    } catch (error) {
      if (!isAbort(error)) this.handle(unit, error);
    }
  }

  private assign(unit: Unit, job: NewJobView, signedAt: number): void {
    const { core, onUnwanted } = this.deps;
    const events: UploadEvent[] = [];
    unit.ids.forEach((id, index) => {
      const sent = job.items[index];
      const work = core.works.get(id);
      if (sent === undefined) return;
      if (work === undefined || core.item(id)?.phase === "cancelled") {
        onUnwanted(sent.photoId);
        return;
      }
      work.ticket = { item: sent, signedAt };
      events.push({
        type: "assigned",
        id,
        jobId: job.jobId,
        photoId: sent.photoId,
        strategy: strategyFrom(sent),
      });
    });
    core.dispatchAll(events);
  }

  private handle(unit: Unit, error: unknown): void {
    const { onNetworkError, onSessionEnded } = this.deps;
    if (error instanceof SessionEnded) {
      onSessionEnded();
      return;
    }
    if (isPassing(error)) {
      // The queue waits, and shows it; the same request is repeated with its key.
      const asked = error instanceof ApiError ? error.retryAfterSeconds : null;
      this.notBefore = this.now() + delayOf(this.failures, BACKOFF, asked);
      this.failures += 1;
      if (!(error instanceof ApiError && FOR_NOW.has(error.status))) unit.mayExist = true;
      if (error instanceof NetworkError) onNetworkError();
      return;
    }
    if (error instanceof ApiError && error.reason === "IDEMPOTENCY_CONFLICT") {
      unit.key = newKey();
      return;
    }
    this.unit = null;
    if (error instanceof ApiError && error.reason === "BAD_STRATEGY" && unit.isTus) {
      this.withoutTus(unit);
      return;
    }
    this.refuse(unit, error);
  }

  private withoutTus(unit: Unit): void {
    const { core } = this.deps;
    core.dispatchAll(
      unit.ids.flatMap((id): UploadEvent[] => {
        const size = core.item(id)?.size ?? 0;
        return [{ type: "unassigned", id, strategy: strategyWithoutTus(size, core.state.limits) }];
      }),
    );
  }

  /** Take out the files that the gateway named; the others get a job without them. */
  private refuse(unit: Unit, error: unknown): void {
    const { core, onLimit } = this.deps;
    const isApi = error instanceof ApiError;
    const reason = isApi ? error.reason : "UNKNOWN";
    const detail = isApi ? error.detail : null;
    const named = isApi ? error.fields.flatMap(({ field }) => indexOf(field) ?? []) : [];
    const limit = reason === "BAD_PHOTO_SIZE" ? limitOf(detail) : null;
    if (limit !== null) onLimit(limit);
    const tooLarge = unit.files.flatMap(({ bytes }, index) =>
      limit !== null && bytes > limit ? [index] : [],
    );
    const bad = new Set([...named, ...tooLarge]);
    const failure = failureOf(reason, detail);
    core.dispatchAll(
      unit.ids.flatMap((id, index): UploadEvent[] => {
        if (bad.size > 0 && !bad.has(index)) return [];
        const phase = bad.size > 0 && !failure.canRetry ? "rejected" : "failed";
        return [{ type: "entered", id, phase, failure }];
      }),
    );
  }
}

/** The index of a field such as `files.3.filename`. */
function indexOf(field: string): number | null {
  const digits = /^files\.(\d+)\b/.exec(field)?.[1];
  return digits === undefined ? null : Number(digits);
}

function typeFor(item: UploadItem): FileBody["mimeType"] {
  // Checked when it was added, by the list that the type is made of.
  return item.type as FileBody["mimeType"];
}

export function strategyFrom(item: UploadItemView): UploadStrategy {
  if (item.method === "POST") return "tus";
  return item.multipart === null ? "single" : "multipart";
}
