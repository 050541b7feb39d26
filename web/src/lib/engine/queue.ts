/** Starts what can be started: after each change, and when a delay is over. */
import type { PartPool } from "@/lib/s3/partPool";
import type { UploadItem } from "@/stores/uploadTypes";
import type { EngineCore } from "./core";
import type { JobCreator } from "./jobs";
import { nextUploads } from "./scheduler";
import type { Sender } from "./sender";

export interface QueueDeps {
  readonly core: EngineCore;
  readonly jobs: Pick<JobCreator, "pump">;
  readonly sender: Pick<Sender, "send">;
  readonly pool: PartPool;
  /** Nobody is logged in. */
  readonly isBlocked: () => boolean;
  readonly now?: () => number;
}

/** Uploads that waited for the network come back within this time, not all at once. */
const SPREAD_MS = 500;

export class Queue {
  private isScheduled = false;
  private isStopped = false;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private readonly now: () => number;

  constructor(private readonly deps: QueueDeps) {
    this.now = deps.now ?? Date.now;
    const { core } = deps;
    core.onReady = () => {
      this.wake();
    };
    core.onChange(({ before, after, isQuiet }) => {
      if (isQuiet) return;
      if (after.isOnline && !before.isOnline) this.endDelays();
      this.wake();
    });
  }

  /** Look, once the present task is done. */
  wake(): void {
    if (this.isScheduled || this.isStopped) return;
    this.isScheduled = true;
    queueMicrotask(() => {
      this.isScheduled = false;
      if (!this.isStopped) this.look();
    });
  }

  stop(): void {
    this.isStopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
  }

  private look(): void {
    const { core, jobs, sender, pool, isBlocked } = this.deps;
    jobs.pump();
    if (isBlocked()) return;
    for (const id of nextUploads(core.state, (item) => this.isReady(item))) void sender.send(id);
    pool.setFiles(core.state.summary.uploading);
    this.awaitDelays();
  }

  private isReady(item: UploadItem): boolean {
    const work = this.deps.core.works.get(item.id);
    if (work === undefined || work.isHeld || work.file === null) return false;
    return work.notBefore <= this.now();
  }

  private awaitDelays(): void {
    const { core } = this.deps;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (core.state.summary.waiting === 0) return;
    const now = this.now();
    let next = Infinity;
    for (const [id, work] of core.works) {
      if (work.notBefore > now && core.item(id)?.phase === "waiting") {
        next = Math.min(next, work.notBefore);
      }
    }
    if (next === Infinity) return;
    this.timer = setTimeout(() => {
      this.wake();
    }, next - now);
  }

  private endDelays(): void {
    for (const work of this.deps.core.works.values()) {
      if (!work.isAwaitingNetwork) continue;
      work.isAwaitingNetwork = false;
      work.notBefore = Math.min(work.notBefore, this.now() + SPREAD_MS * Math.random());
    }
  }
}
