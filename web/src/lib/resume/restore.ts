/** Uploads of a page that was reloaded or closed, with their files where they can be had. */
import { isReadable } from "@/lib/s3/put";
import type { UploadRecord } from "./records";
import type { ResumeStore } from "./store";
import type { Tab } from "./tabs";

export interface Restored {
  readonly record: UploadRecord;
  /** Null if it has to be chosen again. */
  readonly file: File | null;
}

/** Take over what no open page of this owner has, in the order of its queue. */
export async function adoptUploads(
  store: ResumeStore,
  tab: Tab,
  owner: string,
): Promise<readonly Restored[]> {
  const records = await tab.adopting(async (isOpen) => {
    const all = await store.all();
    const mine = all
      .filter((record) => record.owner === owner && !isOpen(record.tab))
      .map((record) => ({ ...record, tab: tab.id }))
      .sort((one, other) => one.rank - other.rank);
    for (const record of mine) store.put(record);
    await store.settled();
    return mine;
  });
  return Promise.all(
    records.map(async (record) => ({
      record,
      file: record.hasArrived ? null : await fileOf(store, record),
    })),
  );
}

/** Of Chromium; not in the standard library's types. */
interface GrantedHandle extends FileSystemFileHandle {
  queryPermission?(descriptor: { readonly mode: "read" }): Promise<PermissionState>;
}

async function fileOf(store: ResumeStore, record: UploadRecord): Promise<File | null> {
  const stored = await store.fileOf(record.id);
  const file = stored?.file;
  const handle: GrantedHandle | undefined = stored?.handle;
  if (file?.size === record.size && (await isReadable(file))) return file;
  if (handle === undefined) return null;
  try {
    // Only what is still granted: asking needs a click of the person.
    if ((await handle.queryPermission?.({ mode: "read" })) !== "granted") return null;
    const opened = await handle.getFile();
    const isSame = opened.size === record.size && opened.lastModified === record.lastModified;
    return isSame && (await isReadable(opened)) ? opened : null;
  } catch {
    return null;
  }
}
