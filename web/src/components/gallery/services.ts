/** What the gallery works with, given from the root of the page. */
import { createContext, useContext } from "react";
import type { QueryClient } from "@tanstack/react-query";
import type { PhotoCalls } from "@/lib/api/photos";
import type { SessionKeeper } from "@/lib/api/auth";
import type { UploadCalls } from "@/lib/api/upload";
import { ApiError } from "@/lib/api/errors";
import { removeLeft } from "@/lib/files/spool";
import { createDeletions, type Deletions } from "./deletions";
import { Downloads } from "./downloads";
import { createSignedUrls, type SignedUrls } from "./signedUrls";

export interface GalleryServices {
  readonly photos: PhotoCalls;
  readonly uploads: Pick<UploadCalls, "reprocess">;
  readonly deletions: Deletions;
  readonly downloads: Pick<Downloads, "save">;
  readonly urls: SignedUrls;
}

export interface GalleryDeps {
  /** Of the gateway, without a slash at its end; empty for the page's own origin. */
  readonly baseUrl: string;
  readonly session: Pick<SessionKeeper, "token" | "getState" | "subscribe">;
  readonly photos: PhotoCalls;
  readonly uploads: Pick<UploadCalls, "reprocess">;
  readonly queries: QueryClient;
  onDeleteFailed(count: number, error: unknown): void;
}

/**
 * Compose the services. What waits to be deleted is when the page is left; files of downloads are
 * when nobody is logged in any more, in each of the tabs, and those of closed pages at the start.
 */
export function createGalleryServices(deps: GalleryDeps): GalleryServices {
  const deletions = createDeletions({
    remove: async (photoId) => {
      try {
        await deps.photos.remove(photoId);
      } catch (error) {
        const isGone = error instanceof ApiError && error.reason === "PHOTO_NOT_FOUND";
        if (!isGone) throw error;
      }
    },
    removeOnLeave: (photoId, token) => {
      const headers = token === null ? {} : { authorization: `Bearer ${token}` };
      fetch(`${deps.baseUrl}/commands/photos/${photoId}`, {
        method: "DELETE",
        headers,
        keepalive: true,
      }).catch(() => undefined); // nobody is there to read it; the photo is shown at the next visit
    },
    token: () => deps.session.token(),
    onFailed: (photoIds, error) => {
      deps.onDeleteFailed(photoIds.length, error);
    },
    onRemoved: () => {
      void deps.queries.invalidateQueries({ queryKey: ["photos"] });
      void deps.queries.invalidateQueries({ queryKey: ["tags"] });
    },
  });
  window.addEventListener("pagehide", () => {
    deletions.flush();
  });
  const downloads = new Downloads(deps.photos);
  void removeLeft();
  deps.session.subscribe(() => {
    // The next person at this browser must not find the photos of this one.
    if (deps.session.getState() === "logged-out") void downloads.forget();
  });
  const { photos, uploads } = deps;
  return { photos, uploads, deletions, downloads, urls: createSignedUrls() };
}

const Context = createContext<GalleryServices | null>(null);

export const GalleryProvider = Context.Provider;

/** Raises `Error` outside of a `GalleryProvider`. */
export function useGalleryServices(): GalleryServices {
  const services = useContext(Context);
  if (services === null) throw new Error("There is no gallery around; wrap it in GalleryProvider.");
  return services;
}
