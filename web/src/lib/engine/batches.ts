/** Notices when all files of a batch have ended. */
import type { BatchEnd } from "@/stores/uploadTypes";
import type { EngineCore } from "./core";
import { ENDED } from "./events";

export class Batches {
  private readonly listeners = new Set<(end: BatchEnd) => void>();

  constructor(core: EngineCore) {
    core.onChange(({ before, after, ids, isQuiet }) => {
      if (isQuiet) return;
      const ended = new Set<string>();
      for (const id of ids) {
        const item = after.items.get(id);
        const had = before.items.get(id);
        // Also one that was refused when it was added.
        if (item !== undefined && ENDED.has(item.phase) && had?.phase !== item.phase) {
          ended.add(item.batchId);
        }
      }
      for (const batchId of ended) {
        const items = [...after.items.values()].filter((item) => item.batchId === batchId);
        if (!items.every((item) => ENDED.has(item.phase))) continue;
        const having = (...phases: readonly string[]) =>
          items.filter((item) => phases.includes(item.phase)).length;
        const end = {
          batchId,
          completed: having("completed"),
          failed: having("failed", "rejected"),
          cancelled: having("cancelled"),
        };
        // Of copies of files that are in the list already, nobody has to hear.
        if (end.completed + end.failed + end.cancelled > 0) this.announce(end);
      }
    });
  }

  onEnd(listener: (end: BatchEnd) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private announce(end: BatchEnd): void {
    for (const listener of this.listeners) listener(end);
  }
}
