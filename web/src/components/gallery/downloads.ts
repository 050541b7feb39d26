/** Downloads of originals by signed links. */
import type { PhotoCalls } from "@/lib/api/photos";
import { type Spooled, keptByBrowser, removeAll, spool } from "@/lib/files/spool";

/** Let the browser download from a link, whose answer says that it is an attachment. */
function followLink(url: string, filename: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.download = filename; // of the page's own origin only; else the store's answer names it
  link.rel = "noreferrer";
  document.body.append(link);
  link.click();
  link.remove();
}

/** Let the browser download an original. @throws those of `PhotoCalls`. */
export async function followOriginal(calls: PhotoCalls, photoId: string): Promise<void> {
  const { url, filename } = await calls.downloadUrl(photoId);
  followLink(url, filename);
}

/** Time for the browser to copy a file, which it does at many times this rate. */
const COPY_MS = 60_000;
const COPY_BYTES_PER_MS = 1_000;

/** A file that the browser may still be copying. */
interface Held {
  /** Delete it now. */
  readonly release: () => void;
  readonly released: Promise<void>;
}

/** Downloads of several originals, and their files until the browser has copied them. */
export class Downloads {
  private readonly held = new Set<Held>();
  private stopped = new AbortController();

  constructor(private readonly calls: Pick<PhotoCalls, "downloadUrl">) {}

  /**
   * Download an original, and wait until the browser has it.
   *
   * For one of several: a browser that is sent to a second link drops the first one while that has
   * no answer. So the bytes are written to a file here, and saved when they are complete.
   *
   * @throws `Error` if the store refuses it; `AbortError` after `forget`; those of `PhotoCalls`
   * and `spool`, except that a full disk is waited for.
   */
  async save(photoId: string): Promise<void> {
    const { signal } = this.stopped;
    const { spooled, filename } = await this.fetched(photoId, signal);
    if (signal.aborted) {
      await spooled.release();
      throw signal.reason;
    }
    const object = URL.createObjectURL(spooled.file);
    followLink(object, filename);
    this.hold(spooled, object);
  }

  /** End what is under way and delete all files, those of closed pages too. Never rejects. */
  async forget(): Promise<void> {
    this.stopped.abort();
    this.stopped = new AbortController();
    const releasing = [...this.held].map(({ release, released }) => {
      release();
      return released;
    });
    await Promise.all(releasing);
    await removeAll();
  }

  private async fetched(
    photoId: string,
    signal: AbortSignal,
  ): Promise<{ readonly spooled: Spooled; readonly filename: string }> {
    let isDiskFull = false;
    for (;;) {
      const { url, filename } = await this.calls.downloadUrl(photoId);
      const response = await fetch(url, {
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal,
      });
      if (!response.ok) throw new Error(`The store answered ${response.status}.`);
      try {
        const spooled = isDiskFull
          ? await keptByBrowser(response)
          : await spool(response, photoId, signal);
        return { spooled, filename };
      } catch (error) {
        if (isDiskFull || !isQuotaExceeded(error)) throw error;
        // Files of before take the room that this one needs, until the browser has copied them.
        const [oldest] = this.held;
        if (oldest === undefined) isDiskFull = true;
        else await oldest.released;
      }
    }
  }

  private hold({ file, release: remove }: Spooled, object: string): void {
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = () => {
        clearTimeout(timer);
        this.held.delete(held);
        URL.revokeObjectURL(object);
        void remove().then(resolve);
      };
    });
    const held = { release, released };
    this.held.add(held);
    // The browser has begun to read it when the click has returned, but says nothing of its end.
    const timer = setTimeout(release, COPY_MS + file.size / COPY_BYTES_PER_MS);
  }
}

function isQuotaExceeded(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}
