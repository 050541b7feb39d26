/** Render the gallery's components with calls that a test answers. */
import type { ReactElement } from "react";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { configure, render, type RenderResult } from "@testing-library/react";
import { vi } from "vitest";
import { createDeletions } from "@/components/gallery/deletions";
import { Downloads } from "@/components/gallery/downloads";
import { GalleryProvider, type GalleryServices } from "@/components/gallery/services";
import { createSignedUrls } from "@/components/gallery/signedUrls";
import { Toasts } from "@/components/common/Toasts";
import type { PhotoSummaryView, PhotoView } from "@/lib/api/schema";
import { setLanguage, startI18n } from "@/lib/i18n";

/** Width of every element, in pixels: jsdom has no layout. */
const WIDTH = 1000;

/** What jsdom lacks. For `beforeEach`. */
export async function prepareGallery(): Promise<void> {
  vi.stubGlobal(
    "ResizeObserver",
    class {
      observe(): void {
        // sizes are measured once, when an element appears
      }
      disconnect(): void {
        // nothing to end
      }
    },
  );
  vi.spyOn(HTMLElement.prototype, "getBoundingClientRect").mockReturnValue(
    new DOMRect(0, 100, WIDTH, 600),
  );
  vi.stubGlobal("innerHeight", 4000);
  vi.stubGlobal("innerWidth", 1280);
  // A machine that does other work as well needs longer than the second that is the default.
  configure({ asyncUtilTimeout: 4_000 });
  vi.setConfig({ testTimeout: 20_000 });
  vi.stubGlobal("scrollTo", vi.fn());
  HTMLElement.prototype.checkVisibility = () => true;
  HTMLDialogElement.prototype.showModal = function (this: HTMLDialogElement) {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function (this: HTMLDialogElement) {
    this.open = false;
  };
  history.replaceState(null, "", "/photos");
  await startI18n("en");
  await setLanguage("en");
}

export function photo(id: string, changed: Partial<PhotoSummaryView> = {}): PhotoSummaryView {
  const thumbnail = (size: number) => ({
    size,
    width: size,
    height: (size * 2) / 3,
    mimeType: "image/webp",
    url: `https://store.example/${id}/${size}.webp?signature=1`,
    expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
  });
  return {
    photoId: id,
    jobId: "job_1",
    filename: `${id}.jpg`,
    mimeType: "image/jpeg",
    bytes: 12_345_678,
    status: "COMPLETED",
    reason: null,
    detail: null,
    tags: [],
    width: 6000,
    height: 4000,
    createdAt: new Date().toISOString(),
    completedAt: new Date().toISOString(),
    takenAt: null,
    thumbnails: [thumbnail(256), thumbnail(1024)],
    ...changed,
  };
}

export function detailed(summary: PhotoSummaryView, changed: Partial<PhotoView> = {}): PhotoView {
  return { ...summary, exif: {}, location: null, ...changed };
}

/** Calls of a server that has these photos, in pages of two hundred. */
export function fakeServices(photos: readonly PhotoSummaryView[], tags: readonly string[] = []) {
  const calls = {
    list: vi.fn<GalleryServices["photos"]["list"]>(() =>
      Promise.resolve({ items: [...photos], page: 0, size: 200, hasMore: false, next: null }),
    ),
    get: vi.fn<GalleryServices["photos"]["get"]>((id) => {
      const found = photos.find((each) => each.photoId === id);
      return found ? Promise.resolve(detailed(found)) : Promise.reject(new Error("none"));
    }),
    downloadUrl: vi.fn<GalleryServices["photos"]["downloadUrl"]>(),
    remove: vi.fn<GalleryServices["photos"]["remove"]>(() => Promise.resolve()),
    listTags: vi.fn<GalleryServices["photos"]["listTags"]>(() =>
      Promise.resolve({ items: tags.map((label) => ({ label, count: 2 })), next: null }),
    ),
    addTags: vi.fn<GalleryServices["photos"]["addTags"]>((photoId, added) =>
      Promise.resolve({ photoId, tags: [...added] }),
    ),
    removeTags: vi.fn<GalleryServices["photos"]["removeTags"]>((photoId) =>
      Promise.resolve({ photoId, tags: [] }),
    ),
  };
  const reprocess = vi.fn<GalleryServices["uploads"]["reprocess"]>();
  const services: GalleryServices = {
    photos: calls,
    uploads: { reprocess },
    urls: createSignedUrls(),
    downloads: new Downloads(calls),
    deletions: createDeletions({
      remove: (id) => calls.remove(id),
      removeOnLeave: vi.fn(),
      token: () => Promise.resolve(null),
      onFailed: vi.fn(),
      onRemoved: vi.fn(),
    }),
  };
  return { services, calls, reprocess };
}

export function renderGallery(services: GalleryServices, element: ReactElement): RenderResult {
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  return render(
    <QueryClientProvider client={client}>
      <GalleryProvider value={services}>
        {element}
        <Toasts />
      </GalleryProvider>
    </QueryClientProvider>,
  );
}
