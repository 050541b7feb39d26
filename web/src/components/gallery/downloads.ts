/** Downloads of originals by signed links. */
import type { PhotoCalls } from "@/lib/api/photos";
import { spool } from "@/lib/files/spool";

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

/**
 * Download an original, and wait until the browser has it.
 *
 * For one of several: a browser that is sent to a second link drops the first one while that has
 * no answer. So the bytes are written to a file here, and saved when they are complete.
 *
 * @throws `Error` if the store refuses it; those of `PhotoCalls` and `spool`.
 */
export async function saveOriginal(calls: PhotoCalls, photoId: string): Promise<void> {
  const { url, filename } = await calls.downloadUrl(photoId);
  const response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer" });
  if (!response.ok) throw new Error(`The store answered ${response.status}.`);
  const { file, release } = await spool(response, photoId);
  const object = URL.createObjectURL(file);
  followLink(object, filename);
  // The browser has begun to read it when the click has returned, but says nothing of its end.
  setTimeout(
    () => {
      URL.revokeObjectURL(object);
      release();
    },
    COPY_MS + file.size / COPY_BYTES_PER_MS,
  );
}
