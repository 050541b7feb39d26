/** Goes on with what a former page of this browser left. */
import { ApiError } from "@/lib/api/errors";
import { type RepeatOptions, repeated } from "@/lib/api/repeat";
import type { UploadCalls } from "@/lib/api/upload";
import { Keeper } from "@/lib/resume/keeper";
import { recordKeyOf } from "@/lib/resume/records";
import { type Restored, adoptUploads } from "@/lib/resume/restore";
import type { ResumeStore } from "@/lib/resume/store";
import type { Tab } from "@/lib/resume/tabs";
import type { UploadItem, UploadPhase } from "@/stores/uploadTypes";
import type { EngineCore } from "./core";
import { FRESH_WORK } from "./intake";
import type { Reconciler } from "./reconcile";

export interface RestorationDeps {
  readonly core: EngineCore;
  readonly calls: Pick<UploadCalls, "getJob">;
  readonly reconciler: Reconciler;
  readonly store: ResumeStore | null;
  readonly owner: string;
  readonly openTab: () => Promise<Tab>;
  readonly repeat?: RepeatOptions;
}

export class Restoration {
  keeper: Keeper | null = null;
  private tab: Tab | null = null;
  private readonly stopped = new AbortController();

  constructor(private readonly deps: RestorationDeps) {}

  /** Never rejects: without what it needs, nothing is resumed. */
  async start(): Promise<void> {
    const { core, store, owner, openTab } = this.deps;
    if (store === null) return;
    try {
      this.tab = await openTab();
      // Stopped before it was there: nobody else would ever get its uploads.
      if (this.isStopped()) {
        this.tab.close();
        return;
      }
      const restored = await adoptUploads(store, this.tab, owner);
      if (this.isStopped()) return;
      this.keeper = new Keeper(core, store, owner, this.tab.id);
      this.add(restored);
      const early = [...core.works.keys()];
      for (const id of early) this.keeper.refresh(id);
      await this.reconcile(restored);
    } catch {
      // Web Locks and storage are refused in some windows; uploads work without.
    }
  }

  stop(): void {
    this.stopped.abort();
    this.tab?.close();
    this.deps.store?.close();
  }

  private isStopped(): boolean {
    return this.stopped.signal.aborted;
  }

  /** Remove what is kept of this person's uploads. Never rejects. */
  async forget(): Promise<void> {
    const { store, owner } = this.deps;
    for (const record of (await store?.all()) ?? []) {
      if (record.owner === owner) store?.remove(record.id);
    }
    await store?.settled();
    store?.close();
  }

  private add(restored: readonly Restored[]): void {
    const { core } = this.deps;
    for (const { record, file } of restored) {
      core.works.set(record.id, {
        ...FRESH_WORK,
        file,
        handle: null,
        lastModified: record.lastModified,
        folder: record.folder,
        key: recordKeyOf(record),
        digest: record.digest,
        tusUrl: record.tusUrl,
      });
    }
    core.dispatch({ type: "added", items: restored.map(itemOf) });
    core.show();
  }

  /** Ask what became of them meanwhile, job by job. */
  private async reconcile(restored: readonly Restored[]): Promise<void> {
    const { calls, reconciler, repeat } = this.deps;
    const { signal } = this.stopped;
    const jobs = new Set(restored.flatMap(({ record }) => record.jobId ?? []));
    for (const jobId of jobs) {
      try {
        reconciler.onJob(await repeated(() => calls.getJob(jobId, signal), { ...repeat, signal }));
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) reconciler.onGone(jobId);
        // Otherwise live updates say it, or the upload itself does.
      }
    }
  }
}

function itemOf({ record, file }: Restored): UploadItem {
  return {
    id: record.id,
    batchId: record.batchId,
    name: record.name,
    size: record.size,
    type: record.type,
    rank: record.rank,
    phase: phaseOf(record, file !== null),
    strategy: record.strategy,
    bytesSent: record.hasArrived ? record.size : 0,
    jobId: record.jobId,
    photoId: record.photoId,
    attempt: record.attempt,
    failure: null,
    bytesPerSecond: null,
    thumbnailUrl: null,
  };
}

function phaseOf(record: Restored["record"], hasFile: boolean): UploadPhase {
  if (record.hasArrived) return "processing";
  if (!hasFile) return "needs-file";
  return record.isPaused ? "paused" : "waiting";
}
