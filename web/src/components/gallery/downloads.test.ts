import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { PhotoCalls } from "@/lib/api/photos";
import { saveOriginal } from "./downloads";

/** A private file system of the origin, as browsers have it and jsdom does not. */
class Folder {
  readonly files = new Map<string, Blob>();
  readonly getFileHandle = (name: string) => {
    const parts: BlobPart[] = [];
    return Promise.resolve({
      createWritable: () =>
        Promise.resolve(
          new WritableStream<Uint8Array<ArrayBuffer>>({
            write: (part) => void parts.push(part),
            close: () => void this.files.set(name, new Blob(parts)),
          }),
        ),
      getFile: () => Promise.resolve(this.files.get(name)),
    });
  };
  readonly removeEntry = (name: string) => {
    this.files.delete(name);
    return Promise.resolve();
  };
  keys() {
    return [...this.files.keys()];
  }
}

const link = { url: "https://store.example/p", filename: "a.jpg", expiresAt: "" };
const calls = { downloadUrl: () => Promise.resolve(link) } as unknown as PhotoCalls;
const saved: Blob[] = [];
const revoke = vi.fn();
let folder: Folder;

/** An answer of the store, and what asks for its body as a whole. */
function answer(status: number, ...parts: string[]) {
  const body = new ReadableStream<Uint8Array>({
    start: (stream) => {
      for (const part of parts) stream.enqueue(new TextEncoder().encode(part));
      stream.close();
    },
  });
  const response = new Response(body, { status });
  return { response, blob: vi.spyOn(response, "blob") };
}

beforeEach(() => {
  vi.useFakeTimers({ now: 1e12 });
  saved.length = 0;
  folder = new Folder();
  vi.stubGlobal(
    "FileSystemFileHandle",
    class {
      createWritable(): void {
        // only its presence is asked
      }
    },
  );
  vi.stubGlobal("navigator", {
    storage: {
      getDirectory: () => Promise.resolve({ getDirectoryHandle: () => Promise.resolve(folder) }),
    },
  });
  URL.createObjectURL = (file: Blob) => {
    saved.push(file);
    return "blob:saved";
  };
  URL.revokeObjectURL = revoke;
  HTMLAnchorElement.prototype.click = vi.fn();
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("an original is written to a file as it arrives, which goes when it is saved", async () => {
  folder.files.set(`${1e12 - 2 * 3_600_000}-left`, new Blob());
  const other = `${1e12 - 1_000}-other-page`;
  folder.files.set(other, new Blob());
  const { response, blob } = answer(200, "one ", "two");
  vi.stubGlobal("fetch", () => Promise.resolve(response));
  await saveOriginal(calls, "p");
  expect(blob).not.toHaveBeenCalled();
  expect(await saved[0]?.text()).toBe("one two");
  expect(folder.keys()).toEqual([other, `${Date.now()}-p`]);
  vi.runAllTimers();
  expect(folder.keys()).toEqual([other]);
  expect(revoke).toHaveBeenCalledWith("blob:saved");
});

test("an answer that breaks off is not saved, and leaves no file", async () => {
  const broken = new ReadableStream({
    pull: (stream) => {
      stream.error(new TypeError("network"));
    },
  });
  vi.stubGlobal("fetch", () => Promise.resolve(new Response(broken)));
  await expect(saveOriginal(calls, "p")).rejects.toThrow("network");
  expect(saved).toEqual([]);
  expect(folder.keys()).toEqual([]);
});

test("a refusal is not saved", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(answer(403, "no").response));
  await expect(saveOriginal(calls, "p")).rejects.toThrow("403");
  expect(saved).toEqual([]);
});

test("without a file system the browser keeps it", async () => {
  vi.stubGlobal("FileSystemFileHandle", undefined);
  const { response } = answer(200, "one");
  vi.stubGlobal("fetch", () => Promise.resolve(response));
  await saveOriginal(calls, "p");
  expect(await saved[0]?.text()).toBe("one");
});
