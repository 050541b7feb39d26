/** Downloads of originals by signed links. */
import type { PhotoCalls } from "@/lib/api/photos";

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

/**
 * Download an original, and wait until the browser has it.
 *
 * For one of several: a browser that is sent to a second link drops the first one while that has
 * no answer. So the bytes are read here, and saved when they are complete.
 *
 * @throws `Error` if the store refuses it; those of `PhotoCalls`.
 */
export async function saveOriginal(calls: PhotoCalls, photoId: string): Promise<void> {
  const { url, filename } = await calls.downloadUrl(photoId);
  const response = await fetch(url, { credentials: "omit", referrerPolicy: "no-referrer" });
  if (!response.ok) throw new Error(`The store answered ${response.status}.`);
  const object = URL.createObjectURL(await response.blob());
  followLink(object, filename);
  // The browser has begun to read it when the click has returned, but says nothing of its end.
  setTimeout(() => {
    URL.revokeObjectURL(object);
  }, 60_000);
}
