import { expect, test, vi } from "vitest";
import { collectDrop, collectFiles, collectHandles } from "./collect";

const photo = (name: string) => new File(["x"], name, { type: "image/jpeg" });

function fileEntry(name: string, file: File | null) {
  return {
    name,
    isFile: true,
    isDirectory: false,
    file: (resolve: (file: File) => void, reject: (error: Error) => void) => {
      if (file) resolve(file);
      else reject(new DOMException("gone", "NotFoundError"));
    },
  };
}

/** Readers give at most two children at a time, as browsers give at most 100. */
function folderEntry(name: string, children: readonly object[]) {
  return {
    name,
    isFile: false,
    isDirectory: true,
    createReader: () => {
      const rest = [...children];
      return {
        readEntries: (resolve: (children: object[]) => void) => {
          resolve(rest.splice(0, 2));
        },
      };
    },
  };
}

function item(parts: object): DataTransferItem {
  const made: unknown = {
    kind: "file",
    getAsFile: () => null,
    webkitGetAsEntry: () => null,
    ...parts,
  };
  return made as DataTransferItem; // a drag of files cannot be made by a script
}

test("folders are searched for photos to their depth, more than one read at a time", async () => {
  const inner = folderEntry(
    "2024",
    [1, 2, 3, 4, 5].map((n) => fileEntry(`${n}.jpg`, photo(`${n}.jpg`))),
  );
  const outer = folderEntry("trip", [fileEntry("notes.txt", new File([], "notes.txt")), inner]);
  const onFound = vi.fn();
  const { sources, unreadable } = await collectDrop(
    [item({ webkitGetAsEntry: () => outer })],
    onFound,
  );
  expect(sources.map(({ file, folder }) => `${folder ?? ""}/${file.name}`)).toEqual(
    [1, 2, 3, 4, 5].map((n) => `trip/2024/${n}.jpg`),
  );
  expect(unreadable).toBe(0);
  expect(onFound).toHaveBeenLastCalledWith(5);
});

test("a file that cannot be read keeps no other one back", async () => {
  const folder = folderEntry("trip", [
    fileEntry("gone.jpg", null),
    fileEntry("a.jpg", photo("a.jpg")),
  ]);
  const collected = await collectDrop([item({ webkitGetAsEntry: () => folder })], vi.fn());
  expect(collected.sources.map(({ file }) => file.name)).toEqual(["a.jpg"]);
  expect(collected.unreadable).toBe(1);
});

test("handles are kept, so that files can be opened after a reload", async () => {
  const handle = { kind: "file", name: "a.jpg", getFile: () => Promise.resolve(photo("a.jpg")) };
  const { sources } = await collectDrop(
    [item({ getAsFileSystemHandle: () => Promise.resolve(handle) })],
    vi.fn(),
  );
  expect(sources[0]?.handle).toBe(handle);
});

test("a file is taken as it is where its handle is refused", async () => {
  const dropped = item({
    getAsFileSystemHandle: () => Promise.reject(new DOMException("no", "NotAllowedError")),
    getAsFile: () => photo("a.jpg"),
  });
  const { sources } = await collectDrop([dropped], vi.fn());
  expect(sources.map(({ file }) => file.name)).toEqual(["a.jpg"]);
});

test("text that is dropped is no file", async () => {
  const { sources } = await collectDrop([item({ kind: "string" })], vi.fn());
  expect(sources).toEqual([]);
});

test("a file that was chosen by name is kept, so that it gets a reason", () => {
  const { sources } = collectFiles([new File([], "notes.txt")]);
  expect(sources).toHaveLength(1);
});

test("handles that cannot be opened are counted", async () => {
  const broken: unknown = { kind: "file", getFile: () => Promise.reject(new Error("gone")) };
  const { sources, unreadable } = await collectHandles([broken as FileSystemFileHandle]);
  expect([sources.length, unreadable]).toEqual([0, 1]);
});
