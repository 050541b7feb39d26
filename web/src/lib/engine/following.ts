/** Follows the jobs whose photos have not ended. */
import type { LiveUpdates } from "@/lib/websocket/types";
import type { UploadItem } from "@/stores/uploadTypes";
import type { EngineCore } from "./core";
import { ENDED } from "./events";

export class Following {
  /** Open items by job. */
  private readonly open = new Map<string, number>();

  constructor(
    core: EngineCore,
    private readonly live: LiveUpdates,
  ) {
    core.onChange(({ before, after, ids, isQuiet }) => {
      if (isQuiet) return;
      // First what is followed anew: a job that one photo leaves and another enters stays.
      for (const id of ids) this.count(after.items.get(id), 1);
      for (const id of ids) this.count(before.items.get(id), -1);
    });
  }

  stop(): void {
    this.live.stop();
  }

  private count(item: UploadItem | undefined, sign: 1 | -1): void {
    if (item?.jobId == null || ENDED.has(item.phase)) return;
    const before = this.open.get(item.jobId) ?? 0;
    const now = before + sign;
    if (now > 0) this.open.set(item.jobId, now);
    else this.open.delete(item.jobId);
    if (before === 0 && now > 0) this.live.follow(item.jobId);
    if (before > 0 && now <= 0) this.live.unfollow(item.jobId);
  }
}
