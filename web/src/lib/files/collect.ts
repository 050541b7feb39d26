/** The photos in what was dropped, chosen or pasted; folders are searched. */
import type { FileSource } from "@/stores/uploadTypes";
import { isPhoto } from "./names";

export interface Collected {
  readonly sources: readonly FileSource[];
  /** Files that the browser could not open, for example because they were moved meanwhile. */
  readonly unreadable: number;
}

/** Called with the number of photos that were found so far. */
export type OnFound = (found: number) => void;

class Collection {
  readonly sources: FileSource[] = [];
  unreadable = 0;
  readonly #onFound: OnFound;

  constructor(onFound: OnFound) {
    this.#onFound = onFound;
  }

  add(source: FileSource): void {
    if (source.folder !== undefined && !isPhoto(source.file)) return;
    this.sources.push(source);
    this.#onFound(this.sources.length);
  }

  /** One file that cannot be read does not keep the others from being uploaded. */
  async attempt(read: () => Promise<void>): Promise<void> {
    try {
      await read();
    } catch {
      this.unreadable += 1;
    }
  }
}

/** Files of an `<input>` or of the clipboard. */
export function collectFiles(files: Iterable<File>): Collected {
  const collection = new Collection(() => undefined);
  for (const file of files) {
    const path = file.webkitRelativePath;
    if (path) collection.add({ file, folder: path.slice(0, Math.max(0, path.lastIndexOf("/"))) });
    else collection.add({ file });
  }
  return collection;
}

/** Files of handles, which open them again after a reload. */
export async function collectHandles(handles: readonly FileSystemFileHandle[]): Promise<Collected> {
  const collection = new Collection(() => undefined);
  for (const handle of handles) {
    await collection.attempt(async () => {
      collection.add({ file: await handle.getFile(), handle });
    });
  }
  return collection;
}

/**
 * Files and folders of a drop. Call it in the handler of the event: the browser empties the list
 * when that has returned.
 */
export function collectDrop(
  items: Iterable<DataTransferItem>,
  onFound: OnFound,
): Promise<Collected> {
  const collection = new Collection(onFound);
  const reads = [...items]
    .filter((item) => item.kind === "file")
    .map((item) => {
      // All three at once, for none of them can be had later. Handles open a file again after a
      // reload; entries read folders where there are no handles.
      const handle = item.getAsFileSystemHandle?.();
      const entry = item.webkitGetAsEntry();
      const file = item.getAsFile();
      return async () => {
        const opened = handle && (await handle.catch(() => null));
        if (isFileHandle(opened)) collection.add({ file: await opened.getFile(), handle: opened });
        else if (isDirectoryHandle(opened)) await readDirectory(opened, opened.name, collection);
        else if (entry?.isDirectory) await readEntry(entry, "", collection);
        else if (file) collection.add({ file });
      };
    });
  return (async () => {
    for (const read of reads) await collection.attempt(read);
    return collection;
  })();
}

function isFileHandle(handle: FileSystemHandle | null | undefined): handle is FileSystemFileHandle {
  return handle?.kind === "file";
}

function isDirectoryHandle(
  handle: FileSystemHandle | null | undefined,
): handle is FileSystemDirectoryHandle {
  return handle?.kind === "directory";
}

async function readDirectory(
  directory: FileSystemDirectoryHandle,
  folder: string,
  collection: Collection,
): Promise<void> {
  for await (const handle of directory.values()) {
    await collection.attempt(async () => {
      if (isFileHandle(handle)) {
        // Most files of some folders are no photos: do not open those.
        if (!isPhoto({ name: handle.name, type: "" })) return;
        collection.add({ file: await handle.getFile(), handle, folder });
      } else if (isDirectoryHandle(handle)) {
        await readDirectory(handle, `${folder}/${handle.name}`, collection);
      }
    });
  }
}

const isFileEntry = (entry: FileSystemEntry): entry is FileSystemFileEntry => entry.isFile;
const isDirectoryEntry = (entry: FileSystemEntry): entry is FileSystemDirectoryEntry =>
  entry.isDirectory;

async function readEntry(
  entry: FileSystemEntry,
  parent: string,
  collection: Collection,
): Promise<void> {
  if (isFileEntry(entry)) {
    const file = await new Promise<File>((resolve, reject) => {
      entry.file(resolve, reject);
    });
    collection.add({ file, folder: parent });
  } else if (isDirectoryEntry(entry)) {
    const folder = parent ? `${parent}/${entry.name}` : entry.name;
    const reader = entry.createReader();
    for (;;) {
      // At most 100 at a time; an empty list is the end.
      const children = await new Promise<FileSystemEntry[]>((resolve, reject) => {
        reader.readEntries(resolve, reject);
      });
      if (children.length === 0) return;
      for (const child of children) {
        await collection.attempt(() => readEntry(child, folder, collection));
      }
    }
  }
}
