/** Addresses of the gallery within the page. */

export const GALLERY_PATH = "/photos";
export const UPLOAD_PATH = "/";

/** @param search - the filters' query with its `?`, or empty. */
export function photoPath(photoId: string, search: string): string {
  return `${GALLERY_PATH}/${encodeURIComponent(photoId)}${search}`;
}
