/** What the gallery works with, given from the root of the page. */
import { createContext, useContext } from "react";
import type { QueryClient } from "@tanstack/react-query";
import type { PhotoCalls } from "@/lib/api/photos";
import type { Session } from "@/lib/api/session";
import type { UploadCalls } from "@/lib/api/upload";
import { ApiError } from "@/lib/api/errors";
import { createDeletions, type Deletions } from "./deletions";
import { createSignedUrls, type SignedUrls } from "./signedUrls";

export interface GalleryServices {
  readonly photos: PhotoCalls;
  readonly uploads: Pick<UploadCalls, "reprocess">;
  readonly deletions: Deletions;
  readonly urls: SignedUrls;
}

export interface GalleryDeps {
  /** Of the gateway, without a slash at its end; empty for the page's own origin. */
  readonly baseUrl: string;
  readonly session: Session;
  readonly photos: PhotoCalls;
  readonly uploads: Pick<UploadCalls, "reprocess">;
  readonly queries: QueryClient;
  onDeleteFailed(count: number, error: unknown): void;
}

/** Compose the services, and delete what waits for it when the page is left. */
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
  return { photos: deps.photos, uploads: deps.uploads, deletions, urls: createSignedUrls() };
}

const Context = createContext<GalleryServices | null>(null);

export const GalleryProvider = Context.Provider;

/** Raises `Error` outside of a `GalleryProvider`. */
export function useGalleryServices(): GalleryServices {
  const services = useContext(Context);
  if (services === null) throw new Error("There is no gallery around; wrap it in GalleryProvider.");
  return services;
}
