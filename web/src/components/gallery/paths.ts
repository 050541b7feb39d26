/** Addresses of the gallery within the page. */

import { useRoute } from "wouter";

export const GALLERY_PATH = "/photos";
export const UPLOAD_PATH = "/";

/** @param search - the filters' query with its `?`, or empty. */
export function photoPath(photoId: string, search: string): string {
  return `${GALLERY_PATH}/${encodeURIComponent(photoId)}${search}`;
}

/** Whether one photo lies over the page, whose other parts can neither be seen nor used then. */
export function useIsPhotoOpen(): boolean {
  const [, params] = useRoute<{ readonly id?: string }>(`${GALLERY_PATH}/:id?`);
  return params?.id !== undefined;
}
