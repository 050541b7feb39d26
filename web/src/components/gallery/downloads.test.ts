import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { QueryClient } from "@tanstack/react-query";
import type { SessionState } from "@/lib/api/auth";
import type { PhotoCalls } from "@/lib/api/photos";
import { Downloads } from "./downloads";
import { createGalleryServices } from "./services";

/** A private file system of the origin, as browsers have it and jsdom does not. */
class Folder {
  readonly files = new Map<string, Blob>();
  /** Bytes of all files that there is room for. */
  quota = Infinity;
  /** Called by each operation before it does anything. */
  onCall: (name: "keys" | "getFileHandle") => void = () => undefined;
  readonly getFileHandle = async (name: string) => {
    await Promise.resolve();
    this.onCall("getFileHandle");
    const parts: BlobPart[] = [];
    return {
      createWritable: () =>
        Promise.resolve(
          new WritableStream<Uint8Array<ArrayBuffer>>({
            write: (part) => {
              const sizes = [...this.files.values()].map(({ size }) => size);
              const used = sizes.reduce((sum, size) => sum + size, part.byteLength);
              if (used > this.quota) throw new DOMException("full", "QuotaExceededError");
              parts.push(part);
            },
            close: () => void this.files.set(name, new Blob(parts)),
          }),
        ),
      getFile: () => Promise.resolve(this.files.get(name)),
    };
  };
  readonly removeEntry = (name: string) => {
    this.files.delete(name);
    return Promise.resolve();
  };
  keys() {
    this.onCall("keys");
    return [...this.files.keys()];
  }
}

const link = { url: "https://store.example/p", filename: "a.jpg", expiresAt: "" };
const calls = { downloadUrl: () => Promise.resolve(link) } as unknown as PhotoCalls;
const saved: Blob[] = [];
const revoke = vi.fn();
let folder: Folder;
let downloads: Downloads;

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
  downloads = new Downloads(calls);
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
  await downloads.save("p");
  expect(blob).not.toHaveBeenCalled();
  expect(await saved[0]?.text()).toBe("one two");
  expect(folder.keys()).toEqual([other, `${Date.now()}-p`]);
  await vi.runAllTimersAsync();
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
  await expect(downloads.save("p")).rejects.toThrow("network");
  expect(saved).toEqual([]);
  expect(folder.keys()).toEqual([]);
});

test("a refusal is not saved", async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(answer(403, "no").response));
  await expect(downloads.save("p")).rejects.toThrow("403");
  expect(saved).toEqual([]);
});

test("without a file system the browser keeps it", async () => {
  vi.stubGlobal("FileSystemFileHandle", undefined);
  const { response } = answer(200, "one");
  vi.stubGlobal("fetch", () => Promise.resolve(response));
  await downloads.save("p");
  expect(await saved[0]?.text()).toBe("one");
});

test.each(["keys", "getFileHandle"] as const)("if %s fails the browser keeps it", async (name) => {
  folder.onCall = (called) => {
    if (called === name) throw new DOMException("broken", "NotReadableError");
  };
  vi.stubGlobal("fetch", () => Promise.resolve(answer(200, "one").response));
  await downloads.save("p");
  expect(await saved[0]?.text()).toBe("one");
});

test("on a full disk it waits for the room of files that the browser has copied", async () => {
  folder.quota = 5;
  const asked = vi.fn(() => Promise.resolve(answer(200, "four").response));
  vi.stubGlobal("fetch", asked);
  await downloads.save("p");
  const second = downloads.save("q");
  await vi.waitUntil(() => asked.mock.calls.length === 2);
  expect(saved).toHaveLength(1);
  await vi.runOnlyPendingTimersAsync();
  await second;
  expect(await saved[1]?.text()).toBe("four");
  expect(folder.keys()).toEqual([`${Date.now()}-q`]);
});

test("what there is never room for is kept by the browser", async () => {
  folder.quota = 1;
  vi.stubGlobal("fetch", () => Promise.resolve(answer(200, "four").response));
  await downloads.save("p");
  expect(await saved[0]?.text()).toBe("four");
  expect(folder.keys()).toEqual([]);
});

test("when a person logs out all files go, and what is under way ends", async () => {
  folder.files.set(`${1e12 - 1_000}-closed-page`, new Blob());
  vi.stubGlobal("fetch", () => Promise.resolve(answer(200, "one").response));
  await downloads.save("p");
  const endless = new Response(new ReadableStream());
  const asked = vi.fn(() => Promise.resolve(endless));
  vi.stubGlobal("fetch", asked);
  const second = downloads.save("q");
  const ended = expect(second).rejects.toMatchObject({ name: "AbortError" });
  await vi.waitUntil(() => endless.bodyUsed || endless.body?.locked === true);
  await downloads.forget();
  await ended;
  expect(folder.keys()).toEqual([]);
  expect(revoke).toHaveBeenCalledWith("blob:saved");
  expect(saved).toHaveLength(1);
});

test("the gallery forgets files at its start and with the session", async () => {
  const left = `${1e12 - 2 * 3_600_000}-left`;
  const recent = `${1e12 - 1_000}-recent`;
  for (const name of [left, recent]) folder.files.set(name, new Blob());
  let state: SessionState = "logged-in";
  const listeners: (() => void)[] = [];
  createGalleryServices({
    baseUrl: "",
    session: {
      token: () => Promise.resolve("t"),
      getState: () => state,
      subscribe: (listener) => {
        listeners.push(listener);
        return () => undefined;
      },
    },
    photos: calls,
    uploads: { reprocess: vi.fn() },
    queries: new QueryClient(),
    onDeleteFailed: vi.fn(),
  });
  await vi.waitUntil(() => !folder.files.has(left));
  for (const listener of listeners) listener();
  expect(folder.keys()).toEqual([recent]);
  state = "logged-out";
  for (const listener of listeners) listener();
  await vi.waitUntil(() => folder.files.size === 0);
});
