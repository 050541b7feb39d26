/** Takes files into the queue: checks them, and finds those that are there already. */
import { newKey } from "@/lib/api/upload";
import { duplicateKeyOf, isSameFile, looksLike } from "@/lib/resume/records";
import type { FileSource, UploadItem, UploadPhase } from "@/stores/uploadTypes";
import type { EngineCore, Work } from "./core";
import { refusalOf, strategyOf, typeOf } from "./precheck";

/** Phases of items whose file is not there, or not any more: the same one may come again. */
const REPEATABLE: ReadonlySet<UploadPhase> = new Set(["failed", "cancelled"]);

export class Intake {
  constructor(
    private readonly core: EngineCore,
    private readonly now: () => number = Date.now,
  ) {}

  /** One batch. Files that an item of before a reload waits for go to that item instead. */
  add(sources: readonly FileSource[]): void {
    const awaited = this.awaiting();
    const [known, fresh] = partition(sources, ({ file }) =>
      awaited.some((item) => looksLike(item, file)),
    );
    const batchId = newKey();
    this.append(fresh, batchId);
    if (known.length === 0) return;
    void this.match(known).then(({ rest }) => {
      this.append(rest, batchId);
    });
  }

  /** Give items of before a reload their files; returns the ids of those that got one. */
  async provide(sources: readonly FileSource[]): Promise<readonly string[]> {
    return (await this.match(sources)).ids;
  }

  private async match(
    sources: readonly FileSource[],
  ): Promise<{ readonly ids: readonly string[]; readonly rest: readonly FileSource[] }> {
    const ids: string[] = [];
    const rest: FileSource[] = [];
    for (const source of sources) {
      const id = await this.matching(source.file);
      if (id === null) rest.push(source);
      else {
        ids.push(id);
        this.give(id, source);
      }
    }
    return { ids, rest };
  }

  private async matching(file: File): Promise<string | null> {
    for (const item of this.awaiting()) {
      const work = this.core.works.get(item.id);
      if (work === undefined) continue;
      const { name, size } = item;
      const { lastModified, digest } = work;
      const isSame = await isSameFile({ name, size, lastModified, digest }, file);
      if (isSame && this.core.item(item.id)?.phase === "needs-file") return item.id;
    }
    return null;
  }

  private give(id: string, { file, handle }: FileSource): void {
    const work = this.core.works.get(id);
    if (work === undefined) return;
    work.file = file;
    work.handle = handle ?? null;
    work.notBefore = 0;
    const phase = this.core.state.isPaused ? "paused" : "waiting";
    this.core.dispatch({ type: "entered", id, phase });
    this.core.show();
  }

  private awaiting(): readonly UploadItem[] {
    if (this.core.state.summary.needsFile === 0) return [];
    return [...this.core.state.items.values()].filter((item) => item.phase === "needs-file");
  }

  private append(sources: readonly FileSource[], batchId: string): void {
    if (sources.length === 0) return;
    const keys = this.keys();
    const last = this.core.item(this.core.state.order.at(-1) ?? "")?.rank ?? 0;
    const rank = Math.max(this.now(), last + 1);
    const items = sources.map((source, index) => this.itemOf(source, batchId, keys, rank + index));
    this.core.dispatch({ type: "added", items });
    this.core.show();
  }

  private keys(): Set<string> {
    const keys = new Set<string>();
    for (const [id, work] of this.core.works) {
      const phase = this.core.item(id)?.phase;
      if (phase !== undefined && !REPEATABLE.has(phase)) keys.add(work.key);
    }
    return keys;
  }

  private itemOf(source: FileSource, batchId: string, keys: Set<string>, rank: number): UploadItem {
    const { file } = source;
    const { limits } = this.core.state;
    const failure = refusalOf(source, limits);
    const key = duplicateKeyOf(source);
    const isDuplicate = failure === null && keys.has(key);
    const item: UploadItem = {
      id: newKey(),
      batchId,
      name: file.name,
      size: file.size,
      type: typeOf(file, limits.contentTypes) ?? file.type,
      rank,
      phase: "waiting",
      strategy: strategyOf(file.size, limits),
      bytesSent: 0,
      jobId: null,
      photoId: null,
      attempt: 1,
      failure: null,
      bytesPerSecond: null,
      thumbnailUrl: null,
    };
    if (failure !== null) return { ...item, phase: "rejected", failure };
    if (isDuplicate) {
      return {
        ...item,
        phase: "duplicate",
        failure: { reason: "DUPLICATE", detail: null, canRetry: false },
      };
    }
    keys.add(key);
    this.core.works.set(item.id, newWork(source, key));
    return this.core.state.isPaused ? { ...item, phase: "paused" } : item;
  }
}

export function newWork(source: FileSource, key: string): Work {
  return {
    file: source.file,
    handle: source.handle ?? null,
    lastModified: source.file.lastModified,
    folder: source.folder ?? "",
    key,
    ...FRESH_WORK,
  };
}

/** Of a file that nothing has been done with yet. */
export const FRESH_WORK = {
  digest: null,
  ticket: null,
  tusUrl: null,
  controller: null,
  isHeld: false,
  notBefore: 0,
  isAwaitingNetwork: false,
  failures: 0,
  retries: 0,
  retriedAt: 0,
} as const satisfies Partial<Work>;

function partition<T>(all: readonly T[], isFirst: (each: T) => boolean): readonly [T[], T[]] {
  const first: T[] = [];
  const second: T[] = [];
  for (const each of all) (isFirst(each) ? first : second).push(each);
  return [first, second];
}
