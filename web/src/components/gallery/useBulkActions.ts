/** What is done with several photos at once, with its messages. */
import { useState } from "react";
import { useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { isAbort } from "@/lib/api/errors";
import type { PhotoSummaryView } from "@/lib/api/schema";
import { newKey } from "@/lib/api/upload";
import { toaster } from "@/stores/toastStore";
import { forEachLimited } from "./deletions";
import { followOriginal } from "./downloads";
import { errorText } from "./reasons";
import { useGalleryServices } from "./services";

/** Time in which a deletion can be undone. */
export const UNDO_MS = 6_000;
const AT_ONCE = 4;

type Named = Pick<PhotoSummaryView, "photoId" | "filename">;

/** Hide photos, and delete them when the time to undo has passed. */
export function useDeletePhotos(): (photos: readonly Named[]) => void {
  const { deletions } = useGalleryServices();
  const { t } = useTranslation();
  return (photos) => {
    const [first] = photos;
    if (first === undefined) return;
    const batch = deletions.schedule(photos.map((photo) => photo.photoId));
    toaster.show({
      tone: "info",
      title: t("gallery.deleted", { count: photos.length, name: first.filename }),
      duration: UNDO_MS,
      action: {
        label: t("gallery.undo"),
        onAction: () => {
          deletions.undo(batch);
        },
      },
      onExpire: () => void deletions.commit(batch),
    });
  };
}

/** Download originals, and add tags. `isBusy`: downloads are under way. */
export function useBulkActions() {
  const { photos: calls, downloads } = useGalleryServices();
  const { t } = useTranslation();
  const client = useQueryClient();
  const [isBusy, setIsBusy] = useState(false);

  const tag = async (photoIds: readonly string[], tags: readonly string[]) => {
    let failed = 0;
    let error: unknown;
    await forEachLimited(photoIds, AT_ONCE, async (id) => {
      try {
        await calls.addTags(id, tags, newKey());
      } catch (thrown) {
        failed += 1;
        error ??= thrown;
      }
    });
    await Promise.all(
      ["photos", "photo", "tags"].map((key) => client.invalidateQueries({ queryKey: [key] })),
    );
    const done = photoIds.length - failed;
    if (failed > 0) {
      toaster.show({
        tone: "danger",
        title: t("gallery.tagFailed", { count: failed }),
        text: errorText(t, error),
      });
    } else toaster.show({ tone: "success", title: t("gallery.tagged", { count: done }) });
  };

  const download = async (photos: readonly Named[]) => {
    const [first] = photos;
    if (first === undefined || isBusy) return;
    setIsBusy(true);
    try {
      if (photos.length === 1) await followOriginal(calls, first.photoId);
      else await downloadSeveral(photos);
    } catch (error) {
      toaster.show({
        tone: "danger",
        title: t("gallery.downloadFailed", { count: 1 }),
        text: errorText(t, error),
      });
    } finally {
      setIsBusy(false);
    }
  };

  const downloadSeveral = async (photos: readonly Named[]) => {
    let [done, failed] = [0, 0];
    let firstError: unknown;
    const total = photos.length;
    const show = () =>
      toaster.show({
        tone: "info",
        title: t("gallery.downloading", { done, total }),
        duration: null,
      });
    let toast = show();
    // One after the other: each takes room on the disk, and for a minute after it was saved.
    for (const photo of photos) {
      try {
        await downloads.save(photo.photoId);
        done += 1;
      } catch (error) {
        if (isAbort(error)) {
          toaster.dismiss(toast); // nobody is logged in any more
          return;
        }
        failed += 1;
        firstError ??= error;
      }
      toaster.dismiss(toast);
      toast = show();
    }
    toaster.dismiss(toast);
    if (failed === 0) {
      toaster.show({ tone: "success", title: t("gallery.downloaded", { count: done }) });
      return;
    }
    const title = t("gallery.downloadFailed", { count: failed });
    toaster.show({ tone: "danger", title, text: errorText(t, firstError) });
  };

  return { tag, download, isBusy };
}
