/**
 * Uploads that are under way, in IndexedDB.
 *
 * Best effort: without a database, in private windows or on a full disk, uploads go on as ever and
 * are gone after a reload, or have to have their files chosen again.
 */
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { type FormerRecord, type StoredFile, type UploadRecord, currentRecord } from "./records";

interface Schema extends DBSchema {
  /** As they were written: perhaps by an earlier release of the page. */
  uploads: { key: string; value: UploadRecord | FormerRecord };
  files: { key: string; value: StoredFile };
}

type Database = IDBPDatabase<Schema>;

export interface ResumeStore {
  /** All records, of all owners and tabs. */
  all(): Promise<readonly UploadRecord[]>;
  /** The file of a record; null if the browser could not keep it. */
  fileOf(id: string): Promise<StoredFile | null>;
  /** Keep or replace; done soon, together with others. */
  put(record: UploadRecord): void;
  putFile(stored: StoredFile): void;
  removeFile(id: string): void;
  /** The record and its file. */
  remove(id: string): void;
  /** Resolves when what was asked for so far is done, or has failed. */
  settled(): Promise<void>;
  close(): void;
}

const NAME = "sluice-uploads";

export function openResumeStore(name = NAME): ResumeStore {
  const records = new Map<string, UploadRecord | null>();
  const files = new Map<string, StoredFile | null>();
  let database: Promise<Database | null> | null = null;
  let writing: Promise<void> | null = null;
  /** A browser that cannot store files may store the rest. */
  let keepsFiles = true;

  const opened = () => {
    database ??= open(name);
    return database;
  };
  const write = async () => {
    // One microtask later, so that the changes of one action are one transaction.
    await Promise.resolve();
    while (records.size + files.size > 0) {
      const some = [...records];
      records.clear();
      // One at a time: a file that is refused takes no other with it.
      const file = [...files][0];
      if (file !== undefined) files.delete(file[0]);
      const db = await opened();
      if (db === null) continue;
      if (some.length > 0) await attempt(() => writeAll(db, "uploads", some));
      if (file === undefined || (file[1] !== null && !keepsFiles)) continue;
      const isKept = await attempt(() => writeAll(db, "files", [file]));
      if (isKept === null) keepsFiles = false;
    }
    writing = null;
  };
  const wake = () => {
    writing ??= write();
  };
  return {
    all: async () => {
      await writing;
      const db = await opened();
      const all = await attempt(async () => (await db?.getAll("uploads")) ?? []);
      return (all ?? []).map(currentRecord);
    },
    fileOf: async (id) => {
      await writing;
      const db = await opened();
      return attempt(async () => (await db?.get("files", id)) ?? null);
    },
    put: (record) => {
      records.set(record.id, record);
      wake();
    },
    putFile: (stored) => {
      files.set(stored.id, stored);
      wake();
    },
    removeFile: (id) => {
      files.set(id, null);
      wake();
    },
    remove: (id) => {
      records.set(id, null);
      files.set(id, null);
      wake();
    },
    settled: async () => {
      await writing;
    },
    close: () => {
      // What was asked for is done first; it opens again if it is used again.
      void (async () => {
        await writing;
        const closing = database;
        database = null;
        (await closing)?.close();
      })();
    },
  };
}

async function open(name: string): Promise<Database | null> {
  return attempt(() =>
    openDB<Schema>(name, 1, {
      upgrade: (db) => {
        db.createObjectStore("uploads", { keyPath: "id" });
        db.createObjectStore("files", { keyPath: "id" });
      },
      blocking: (_current, _blocked, event) => {
        if (event.target instanceof IDBDatabase) event.target.close();
      },
    }),
  );
}

async function writeAll<Name extends "uploads" | "files">(
  db: Database,
  name: Name,
  changes: readonly (readonly [string, Schema[Name]["value"] | null])[],
): Promise<true> {
  const transaction = db.transaction(name, "readwrite");
  const store = transaction.objectStore(name);
  const requests: Promise<unknown>[] = changes.map(([id, value]) =>
    value === null ? store.delete(IDBKeyRange.only(id)) : store.put(value),
  );
  await Promise.all([...requests, transaction.done]);
  return true;
}

/** Null instead of an error. */
async function attempt<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch {
    return null;
  }
}
