/** Keeps the records of uploads up to date with their state. */
import type { EngineCore } from "@/lib/engine/core";
import { ENDED } from "@/lib/engine/events";
import type { UploadItem } from "@/stores/uploadTypes";
import { type UploadRecord, digestOf, recordedState } from "./records";
import type { ResumeStore } from "./store";

/** Bytes of files that are kept at a time: the browser copies them. */
const MAX_FILE_BYTES = 1024 ** 3;

export class Keeper {
  private readonly written = new Map<string, UploadRecord>();
  private readonly fileBytes = new Map<string, number>();
  private keptBytes = 0;
  private digesting: Promise<void> = Promise.resolve();

  constructor(
    private readonly core: EngineCore,
    private readonly store: ResumeStore,
    private readonly owner: string,
    private readonly tab: string,
  ) {
    core.onChange(({ after, ids, isQuiet }) => {
      if (isQuiet) return;
      for (const id of ids) this.write(id, after.items.get(id));
    });
  }

  /** After a change of what only the engine knows, such as a URL of tus. */
  refresh(id: string): void {
    this.write(id, this.core.item(id));
  }

  private write(id: string, item: UploadItem | undefined): void {
    const work = this.core.works.get(id);
    if (item === undefined || work === undefined || ENDED.has(item.phase)) {
      this.forget(id);
      return;
    }
    const record: UploadRecord = {
      ...recordedState(item),
      id,
      owner: this.owner,
      tab: this.tab,
      batchId: item.batchId,
      name: item.name,
      size: item.size,
      type: item.type,
      lastModified: work.lastModified,
      folder: work.folder,
      tusUrl: work.tusUrl,
      digest: work.digest,
    };
    const former = this.written.get(id);
    if (former !== undefined && isSame(former, record)) return;
    this.written.set(id, record);
    this.store.put(record);
    if (former === undefined) this.keepFile(id, item.size);
    if (record.hasArrived) this.forgetFile(id);
  }

  private keepFile(id: string, size: number): void {
    const work = this.core.works.get(id);
    if (work?.file == null) return;
    const { file, handle } = work;
    const hasRoom = this.keptBytes + size <= MAX_FILE_BYTES;
    if (hasRoom) {
      this.keptBytes += size;
      this.fileBytes.set(id, size);
    }
    if (hasRoom || handle !== null) {
      this.store.putFile({
        id,
        ...(hasRoom ? { file } : {}),
        ...(handle === null ? {} : { handle }),
      });
    }
    if (work.digest !== null) return;
    // One after the other: reading a thousand beginnings at once would hold up the uploads.
    this.digesting = this.digesting.then(async () => {
      const now = this.core.works.get(id);
      if (now?.file == null) return;
      now.digest = await digestOf(now.file).catch(() => null);
      this.refresh(id);
    });
  }

  private forget(id: string): void {
    if (!this.written.delete(id)) return;
    this.releaseBytes(id);
    this.store.remove(id);
  }

  private forgetFile(id: string): void {
    this.releaseBytes(id);
    this.store.removeFile(id);
  }

  private releaseBytes(id: string): void {
    this.keptBytes -= this.fileBytes.get(id) ?? 0;
    this.fileBytes.delete(id);
  }
}

function isSame(one: UploadRecord, other: UploadRecord): boolean {
  return Object.entries(one).every(([name, value]) => Reflect.get(other, name) === value);
}
