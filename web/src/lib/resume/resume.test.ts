// @vitest-environment node
import "fake-indexeddb/auto";
import { describe, expect, test, vi } from "vitest";
import { fileOf, tabOf } from "../../../tests/engineBench";
import { type UploadRecord, digestOf, duplicateKeyOf, isSameFile, recordKeyOf } from "./records";
import { adoptUploads } from "./restore";
import { openResumeStore } from "./store";
import { openTab } from "./tabs";

let names = 0;
const fresh = () => {
  names += 1;
  return `resume-${names}`;
};

const recordOf = (id: string, changes: Partial<UploadRecord> = {}): UploadRecord => ({
  id,
  owner: "ann",
  tab: "one",
  batchId: "batch",
  name: `${id}.jpg`,
  size: 9,
  type: "image/jpeg",
  lastModified: 1000,
  folder: "",
  rank: 0,
  isPaused: false,
  strategy: "single",
  jobId: "j",
  photoId: `p-${id}`,
  attempt: 1,
  tusUrl: null,
  digest: null,
  hasArrived: false,
  ...changes,
});

describe("the store", () => {
  test("keeps records and files over a reload, and forgets both", async () => {
    const name = fresh();
    const store = openResumeStore(name);
    store.put(recordOf("a"));
    store.put(recordOf("a", { isPaused: true }));
    store.put(recordOf("b"));
    store.putFile({ id: "a", file: fileOf("a.jpg") });
    await store.settled();
    store.close();
    const again = openResumeStore(name);
    expect((await again.all()).map(({ id, isPaused }) => [id, isPaused])).toEqual([
      ["a", true],
      ["b", false],
    ]);
    expect((await again.fileOf("a"))?.file?.size).toBe(9);
    expect(await again.fileOf("b")).toBeNull();
    again.remove("a");
    again.removeFile("b");
    await again.settled();
    expect((await again.all()).length).toBe(1);
    expect(await again.fileOf("a")).toBeNull();
  });

  test("records of earlier releases have the time at which they were added as their rank", async () => {
    const name = fresh();
    const store = openResumeStore(name);
    for (const [id, addedAt] of [
      ["late", 1e12 + 1],
      ["early", 1e12],
    ] as const) {
      const former: Record<string, unknown> = { ...recordOf(id), addedAt };
      delete former["rank"];
      store.put(former as unknown as UploadRecord);
    }
    store.put(recordOf("first", { rank: 1 }));
    const adopted = await adoptUploads(store, await tabOf("two")(), "ann");
    expect(adopted.map(({ record }) => [record.id, record.rank])).toEqual([
      ["first", 1],
      ["early", 1e12],
      ["late", 1e12 + 1],
    ]);
  });

  test("what it is asked before it is closed is done", async () => {
    const name = fresh();
    const store = openResumeStore(name);
    store.put(recordOf("a"));
    store.close();
    await store.settled();
    expect((await openResumeStore(name).all()).length).toBe(1);
  });

  test("a browser that cannot keep files keeps the rest", async () => {
    const store = openResumeStore(fresh());
    const unclonable = fileOf("a.jpg");
    Object.defineProperty(unclonable, "trap", { value: 1 });
    const put = vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(function (
      this: IDBObjectStore,
      value: unknown,
    ) {
      if (this.name === "files") throw new DOMException("no files", "DataCloneError");
      put.mockRestore();
      return this.put(value);
    });
    store.putFile({ id: "a", file: unclonable });
    await store.settled();
    store.put(recordOf("a"));
    await store.settled();
    expect((await store.all()).length).toBe(1);
    expect(await store.fileOf("a")).toBeNull();
    vi.restoreAllMocks();
  });

  test("without a database all is empty, and nothing is thrown", async () => {
    vi.spyOn(indexedDB, "open").mockImplementation(() => {
      throw new DOMException("private", "InvalidStateError");
    });
    const store = openResumeStore(fresh());
    store.put(recordOf("a"));
    store.putFile({ id: "a" });
    store.remove("a");
    await store.settled();
    expect(await store.all()).toEqual([]);
    expect(await store.fileOf("a")).toBeNull();
    store.close();
    vi.restoreAllMocks();
  });
});

describe("matching", () => {
  test("by name, size and the first block; by time only without it", async () => {
    const file = fileOf("a.jpg", 100_000);
    const record = recordOf("a", { size: 100_000, digest: await digestOf(file) });
    expect(await isSameFile(record, file)).toBe(true);
    expect(await isSameFile(record, fileOf("a.jpg", 100_000, { lastModified: 5 }))).toBe(true);
    expect(await isSameFile(record, fileOf("b.jpg", 100_000))).toBe(false);
    expect(await isSameFile(record, fileOf("a.jpg", 99_999))).toBe(false);
    expect(await isSameFile(record, new File([new Uint8Array(100_000)], "a.jpg"))).toBe(false);
    const undigested = { ...record, digest: null };
    expect(await isSameFile(undigested, file)).toBe(true);
    expect(await isSameFile(undigested, fileOf("a.jpg", 100_000, { lastModified: 5 }))).toBe(false);
  });

  test("a file that cannot be read is no other", async () => {
    const file = fileOf("a.jpg");
    file.slice = () => {
      throw new DOMException("gone", "NotReadableError");
    };
    expect(await isSameFile(recordOf("a", { digest: "00000000" }), file)).toBe(false);
  });

  test("duplicates are of one folder, name, size and time", () => {
    const file = fileOf("a.jpg");
    expect(duplicateKeyOf({ file })).toBe(recordKeyOf(recordOf("a")));
    expect(duplicateKeyOf({ file, folder: "x" })).not.toBe(duplicateKeyOf({ file }));
  });
});

describe("adoption", () => {
  test("of closed pages of the same person only, in the order of the queue", async () => {
    const store = openResumeStore(fresh());
    store.put(recordOf("late", { rank: 2 }));
    store.put(recordOf("early", { rank: 1 }));
    store.put(recordOf("bob", { owner: "bob" }));
    store.put(recordOf("open", { tab: "other" }));
    const adopted = await adoptUploads(store, await tabOf("two", new Set(["other"]))(), "ann");
    expect(adopted.map(({ record }) => [record.id, record.tab])).toEqual([
      ["early", "two"],
      ["late", "two"],
    ]);
    const again = await adoptUploads(store, await tabOf("3", new Set(["two", "other"]))(), "ann");
    expect(again).toEqual([]);
  });

  test("a handle opens its file only while that is still granted and unchanged", async () => {
    const handleOf = (permission: string, file: File) => ({
      queryPermission: () => Promise.resolve(permission),
      getFile: () => Promise.resolve(file),
    });
    const opened = async (handle: unknown) => {
      const store = openResumeStore(fresh());
      store.put(recordOf("a"));
      // A handle cannot be cloned here: the store is asked, not its database.
      store.fileOf = () => Promise.resolve({ id: "a", handle: handle as FileSystemFileHandle });
      const [restored] = await adoptUploads(store, await tabOf("two")(), "ann");
      return restored?.file ?? null;
    };
    expect(await opened(handleOf("granted", fileOf("a.jpg")))).not.toBeNull();
    expect(await opened(handleOf("prompt", fileOf("a.jpg")))).toBeNull();
    expect(await opened(handleOf("granted", fileOf("a.jpg", 9, { lastModified: 5 })))).toBeNull();
    expect(await opened({})).toBeNull();
  });
});

describe("tabs", () => {
  test("with Web Locks an open page keeps its own", async () => {
    const held = new Map<string, Promise<unknown>>();
    const locks = {
      request: (name: string, work: () => Promise<unknown>) => {
        const result = work();
        held.set(name, result);
        void result.finally(() => held.delete(name));
        return result;
      },
      query: () => Promise.resolve({ held: [...held.keys()].map((name) => ({ name })) }),
    } as unknown as LockManager;
    const one = await openTab(locks, null);
    const two = await openTab(locks, null);
    expect(await two.adopting((isOpen) => Promise.resolve(isOpen(one.id)))).toBe(true);
    one.close();
    await Promise.resolve();
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(await two.adopting((isOpen) => Promise.resolve(isOpen(one.id)))).toBe(false);
  });

  test("without them a page knows its own after a reload", async () => {
    const values = new Map<string, string>();
    const storage = {
      getItem: (key: string) => values.get(key) ?? null,
      setItem: (key: string, value: string) => {
        values.set(key, value);
      },
    } as unknown as Storage;
    const one = await openTab(null, storage);
    const reloaded = await openTab(null, storage);
    expect(reloaded.id).toBe(one.id);
    expect(await reloaded.adopting((isOpen) => Promise.resolve(isOpen(one.id)))).toBe(false);
    expect(await reloaded.adopting((isOpen) => Promise.resolve(isOpen("other")))).toBe(true);
  });
});
