/** Answers of any size as files of the browser's own disk, so that none is held in memory. */

export interface Spooled {
  readonly file: Blob;
  /** Delete it. Whoever reads it has to be done. Never rejects. */
  readonly release: () => Promise<void>;
}

const FOLDER = "sluice-downloads";
/** What is older was left by a page that was closed: names begin with the time, in milliseconds. */
const LEFT_MS = 60 * 60_000;

/**
 * Write the body of an answer to a file of the origin's private file system. Without one, as on
 * plain HTTP and in some private windows, the browser keeps the body where it likes.
 *
 * @throws what reading the body throws, `AbortError`, and `QuotaExceededError` on a full disk.
 */
export async function spool(
  response: Response,
  name: string,
  signal?: AbortSignal,
): Promise<Spooled> {
  const folder = await folderOf(true);
  if (folder === null || response.body === null) return keptByBrowser(response);
  await removeFrom(folder, LEFT_MS);
  const key = `${Date.now()}-${name}`;
  const release = () => removeEntry(folder, key);
  let handle: FileSystemFileHandle;
  let writable: FileSystemWritableFileStream;
  try {
    handle = await folder.getFileHandle(key, { create: true });
    writable = await handle.createWritable();
  } catch {
    await release();
    return keptByBrowser(response); // nothing of the body has been read yet
  }
  try {
    // Closes the file at the end; an error of either side ends both.
    await response.body.pipeTo(writable, signal === undefined ? {} : { signal });
    return { file: await handle.getFile(), release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** The body of an answer, wherever the browser keeps it. @throws what reading the body throws. */
export async function keptByBrowser(response: Response): Promise<Spooled> {
  return { file: await response.blob(), release: () => Promise.resolve() };
}

/** Delete what pages that were closed have left. Never rejects. */
export async function removeLeft(): Promise<void> {
  await removeOlder(LEFT_MS);
}

/** Delete all, except what a page is writing. Never rejects. */
export async function removeAll(): Promise<void> {
  await removeOlder(-Infinity);
}

async function removeOlder(ageMs: number): Promise<void> {
  const folder = await folderOf(false);
  if (folder !== null) await removeFrom(folder, ageMs);
}

async function folderOf(create: boolean): Promise<FileSystemDirectoryHandle | null> {
  if (typeof FileSystemFileHandle === "undefined") return null;
  if (!("createWritable" in FileSystemFileHandle.prototype)) return null;
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create });
  } catch {
    return null; // refused in this window, or not there
  }
}

/** Best effort: what cannot be listed or deleted now is deleted with a later download. */
async function removeFrom(folder: FileSystemDirectoryHandle, ageMs: number): Promise<void> {
  try {
    for await (const name of folder.keys()) {
      if (Date.now() - Number.parseInt(name, 10) >= ageMs) await removeEntry(folder, name);
    }
  } catch {
    // The folder itself has been deleted meanwhile, or cannot be read.
  }
}

async function removeEntry(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  await folder.removeEntry(name).catch(() => undefined); // locked while it is written
}
