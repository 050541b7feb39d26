/** Answers of any size as files of the browser's own disk, so that none is held in memory. */

export interface Spooled {
  readonly file: Blob;
  /** Delete it. Whoever reads it has to be done. */
  readonly release: () => void;
}

const FOLDER = "sluice-downloads";
/** What is older was left by a page that was closed: names begin with the time, in milliseconds. */
const LEFT_MS = 60 * 60_000;

/**
 * Write the body of an answer to a file of the origin's private file system. Without one, as on
 * plain HTTP and in some private windows, the browser keeps the body where it likes.
 *
 * @throws what reading the body throws, and `QuotaExceededError` on a full disk.
 */
export async function spool(response: Response, name: string): Promise<Spooled> {
  const folder = await folderOf();
  if (folder === null || response.body === null) {
    return { file: await response.blob(), release: () => undefined };
  }
  await forgetLeft(folder);
  const key = `${Date.now()}-${name}`;
  const handle = await folder.getFileHandle(key, { create: true });
  const release = () => {
    // Locked while it is written: the next download deletes what is left.
    folder.removeEntry(key).catch(() => undefined);
  };
  try {
    // Closes the file at the end; an error of either side ends both.
    await response.body.pipeTo(await handle.createWritable());
    return { file: await handle.getFile(), release };
  } catch (error) {
    release();
    throw error;
  }
}

async function folderOf(): Promise<FileSystemDirectoryHandle | null> {
  if (typeof FileSystemFileHandle === "undefined") return null;
  if (!("createWritable" in FileSystemFileHandle.prototype)) return null;
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return null; // refused in this window
  }
}

async function forgetLeft(folder: FileSystemDirectoryHandle): Promise<void> {
  for await (const name of folder.keys()) {
    if (Date.now() - Number.parseInt(name, 10) < LEFT_MS) continue;
    await folder.removeEntry(name).catch(() => undefined); // in use by another page
  }
}
