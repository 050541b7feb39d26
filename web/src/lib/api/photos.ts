/** The gallery's calls: photos, tags and downloads. */
import { type Api, answerOf } from "./client";
import type {
  DownloadView,
  PhotoPageView,
  PhotoSummaryView,
  PhotoView,
  TagPageView,
  TagsView,
  ThumbnailView,
  Variant,
  operations,
} from "./schema";

export type {
  DownloadView,
  PhotoPageView,
  PhotoSummaryView,
  PhotoView,
  TagPageView,
  TagsView,
  ThumbnailView,
  Variant,
};

/** Filters, order and place of a page of photos. */
export type PhotoFilter = NonNullable<
  operations["query_photos_queries_photos_get"]["parameters"]["query"]
>;

/** Calls about photos. All of them reject as those of `UploadCalls`. */
export interface PhotoCalls {
  list(filter?: PhotoFilter, signal?: AbortSignal): Promise<PhotoPageView>;
  get(photoId: string, signal?: AbortSignal): Promise<PhotoView>;
  downloadUrl(photoId: string, variant?: Variant, signal?: AbortSignal): Promise<DownloadView>;
  remove(photoId: string, signal?: AbortSignal): Promise<void>;
  listTags(
    page?: { readonly size?: number; readonly cursor?: string },
    signal?: AbortSignal,
  ): Promise<TagPageView>;
  addTags(photoId: string, tags: readonly string[], key: string): Promise<TagsView>;
  removeTags(photoId: string, tags: readonly string[]): Promise<TagsView>;
}

export function photoCalls(api: Api): PhotoCalls {
  return {
    list: (filter, signal) =>
      answerOf(api.GET("/queries/photos", { params: { query: filter ?? {} }, ...given(signal) })),
    get: (photoId, signal) =>
      answerOf(
        api.GET("/queries/photos/{photoId}", { params: { path: { photoId } }, ...given(signal) }),
      ),
    downloadUrl: (photoId, variant = "original", signal) =>
      answerOf(
        api.GET("/queries/photos/{photoId}/download-url", {
          params: { path: { photoId }, query: { variant } },
          ...given(signal),
        }),
      ),
    remove: async (photoId, signal) => {
      await answerOf(
        api.DELETE("/commands/photos/{photoId}", {
          params: { path: { photoId } },
          ...given(signal),
        }),
      );
    },
    listTags: (page, signal) =>
      answerOf(api.GET("/queries/tags", { params: { query: page ?? {} }, ...given(signal) })),
    addTags: (photoId, tags, key) =>
      answerOf(
        api.POST("/commands/photos/{photoId}/tags", {
          params: { path: { photoId }, header: { "Idempotency-Key": key } },
          body: { tags: [...tags] },
        }),
      ),
    removeTags: (photoId, tags) =>
      answerOf(
        api.DELETE("/commands/photos/{photoId}/tags", {
          params: { path: { photoId }, query: { tag: [...tags] } },
        }),
      ),
  };
}

/** The picture that is nearest to a size from above, else the largest; null without any. */
export function thumbnailOf(
  photo: Pick<PhotoSummaryView, "thumbnails">,
  size: number,
): ThumbnailView | null {
  const sorted = photo.thumbnails.toSorted((one, other) => one.size - other.size);
  return sorted.find((each) => each.size >= size) ?? sorted.at(-1) ?? null;
}

function given(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
