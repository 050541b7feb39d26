/** Queries of the gallery. Keys begin with `photos`, `photo` or `tags`. */
import { useEffect, useMemo } from "react";
import { useStore } from "zustand";
import {
  keepPreviousData,
  useInfiniteQuery,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import type { PhotoSummaryView, PhotoView } from "@/lib/api/schema";
import type { PhotoStatus } from "@/lib/websocket/types";
import { queryOf, type Filters } from "./filters";
import { useGalleryServices } from "./services";
import { renewalTime } from "./signedUrls";

const PAGE_SIZE = 100;
const TAGS_PAGE_SIZE = 100;
/** Between looks at photos that are under way: live updates come for jobs of this page only. */
const LOOK_AGAIN_MS = 5_000;
/** Timers of browsers take at most this. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const ENDED: ReadonlySet<PhotoStatus> = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

export function isUnderWay(status: PhotoStatus): boolean {
  return !ENDED.has(status);
}

/** The photos of a filter, page by page, without those that wait to be deleted. */
export function usePhotos(filters: Filters) {
  const { photos: calls, urls, deletions } = useGalleryServices();
  const hidden = useStore(deletions.store, (state) => state.hidden);
  const client = useQueryClient();
  const query = useInfiniteQuery({
    queryKey: ["photos", filters],
    queryFn: async ({ pageParam, signal }) => {
      const cursor = pageParam === null ? {} : { cursor: pageParam };
      const page = await calls.list({ ...queryOf(filters), size: PAGE_SIZE, ...cursor }, signal);
      return { ...page, items: page.items.map((photo) => urls.keep(photo)) };
    },
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
    placeholderData: keepPreviousData,
    staleTime: 30_000,
    refetchInterval: ({ state }) => {
      const pages = state.data?.pages ?? [];
      const waits = pages.some((page) => page.items.some((photo) => isUnderWay(photo.status)));
      return waits ? LOOK_AGAIN_MS * pages.length : false;
    },
  });
  const pages = query.data?.pages;
  const photos = useMemo(
    () =>
      unique((pages ?? []).flatMap((page) => page.items)).filter(
        (photo) => !hidden.has(photo.photoId),
      ),
    [pages, hidden],
  );
  const renewAt = useMemo(() => renewalTime((pages ?? []).flatMap((page) => page.items)), [pages]);
  useEffect(() => {
    if (renewAt === null) return;
    const delay = Math.min(LONGEST_TIMER_MS, Math.max(1_000, renewAt - Date.now()));
    const timer = setTimeout(() => void client.invalidateQueries({ queryKey: ["photos"] }), delay);
    return () => {
      clearTimeout(timer);
    };
  }, [client, renewAt]);
  return { ...query, photos };
}

/** A photo that was added while pages were read may be on two of them. */
function unique(photos: readonly PhotoSummaryView[]): readonly PhotoSummaryView[] {
  return [...new Map(photos.map((photo) => [photo.photoId, photo])).values()];
}

/** A photo with its EXIF; looked at again while it is under way and before its URLs end. */
export function usePhoto(photoId: string) {
  const { photos: calls, urls } = useGalleryServices();
  return useQuery({
    queryKey: ["photo", photoId],
    queryFn: async ({ signal }): Promise<PhotoView> => urls.keep(await calls.get(photoId, signal)),
    staleTime: 30_000,
    refetchInterval: ({ state }) => {
      const photo = state.data;
      if (photo === undefined) return false;
      if (isUnderWay(photo.status)) return LOOK_AGAIN_MS / 2;
      const renewAt = renewalTime([photo]);
      return renewAt === null ? false : Math.max(1_000, renewAt - Date.now());
    },
  });
}

/** All tags, page by page. */
export function useTags() {
  const { photos: calls } = useGalleryServices();
  const query = useInfiniteQuery({
    queryKey: ["tags"],
    queryFn: ({ pageParam, signal }) =>
      calls.listTags(
        { size: TAGS_PAGE_SIZE, ...(pageParam === null ? {} : { cursor: pageParam }) },
        signal,
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
    staleTime: 60_000,
  });
  const pages = query.data?.pages;
  const tags = useMemo(() => (pages ?? []).flatMap((page) => page.items), [pages]);
  return { ...query, tags };
}
