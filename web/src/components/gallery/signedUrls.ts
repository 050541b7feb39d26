/**
 * Signed URLs of thumbnails. Each answer signs anew, so that a refetch would make the browser load
 * every picture again; a URL is kept while it is valid for some minutes more.
 */
import type { PhotoSummaryView, ThumbnailView } from "@/lib/api/schema";

/** Milliseconds before its end at which a URL is replaced. */
export const RENEW_BEFORE_MS = 5 * 60_000;
/** More than these and the oldest is forgotten: 10,000 photos of two sizes. */
const MOST_KEPT = 20_000;

export interface SignedUrls {
  /** Return the photo with URLs that were given before, where they are valid for long enough. */
  keep<Photo extends Pick<PhotoSummaryView, "thumbnails">>(photo: Photo, now?: number): Photo;
}

export function createSignedUrls(): SignedUrls {
  const kept = new Map<string, ThumbnailView>();
  const keepOne = (fresh: ThumbnailView, now: number): ThumbnailView => {
    const object = withoutQuery(fresh.url);
    const known = kept.get(object);
    if (known !== undefined && Date.parse(known.expiresAt) - now > RENEW_BEFORE_MS) return known;
    kept.delete(object);
    kept.set(object, fresh);
    const [oldest] = kept.keys();
    if (kept.size > MOST_KEPT && oldest !== undefined) kept.delete(oldest);
    return fresh;
  };
  return {
    keep: (photo, now = Date.now()) => ({
      ...photo,
      thumbnails: photo.thumbnails.map((each) => keepOne(each, now)),
    }),
  };
}

/** The path names the object and its content; what follows is the signature. */
function withoutQuery(url: string): string {
  const end = url.indexOf("?");
  return end < 0 ? url : url.slice(0, end);
}

/**
 * Return the time at which URLs have to be renewed, in milliseconds since 1970; null without any.
 */
export function renewalTime(photos: Iterable<Pick<PhotoSummaryView, "thumbnails">>): number | null {
  let first = Infinity;
  for (const photo of photos) {
    for (const thumbnail of photo.thumbnails) {
      const end = Date.parse(thumbnail.expiresAt);
      if (end < first) first = end;
    }
  }
  return first === Infinity ? null : first - RENEW_BEFORE_MS + 1000;
}
