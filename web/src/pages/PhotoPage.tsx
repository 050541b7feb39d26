import { useEffect, useEffectEvent, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { IconButton } from "@/components/common/IconButton";
import { useCover } from "@/components/gallery/cover";
import { followOriginal } from "@/components/gallery/downloads";
import { PhotoDetails } from "@/components/gallery/PhotoDetails";
import { Notice, PhotoNotice } from "@/components/gallery/PhotoNotice";
import { PhotoStage } from "@/components/gallery/PhotoStage";
import { usePhoto } from "@/components/gallery/queries";
import { errorText } from "@/components/gallery/reasons";
import { useGalleryServices } from "@/components/gallery/services";
import { useDeletePhotos } from "@/components/gallery/useBulkActions";
import { useModalFocus } from "@/components/gallery/useModalFocus";
import {
  ArrowLeft,
  ChevronLeft,
  ChevronRight,
  CircleAlert,
  Download,
  ImageOff,
  Info,
  Trash2,
  X,
} from "@/design/icons";
import { classes } from "@/lib/classes";
import { ApiError } from "@/lib/api/errors";
import type { PhotoSummaryView } from "@/lib/api/schema";
import { useFormat } from "@/lib/i18n/format";
import { toaster } from "@/stores/toastStore";
import styles from "./PhotoPage.module.css";

export interface PhotoPageProps {
  readonly photoId: string;
  /** In the order of the grid behind it. */
  readonly photos: readonly PhotoSummaryView[];
  readonly hasMore: boolean;
  readonly onMore: () => void;
  readonly onShow: (photoId: string) => void;
  /** @param photoId - the photo that was shown last. */
  readonly onClose: (photoId: string) => void;
}

/** From this width on, in CSS pixels, details stand beside the photo from the start. */
const WIDE = 1100;
/** Photos before the end of what is loaded at which more is fetched. */
const PHOTOS_BEFORE_END = 10;

/** One photo over the grid, with its details. */
export default function PhotoPage({
  photoId,
  photos,
  hasMore,
  onMore,
  onShow,
  onClose,
}: PhotoPageProps) {
  const { t } = useTranslation();
  const format = useFormat();
  const { photos: calls, deletions } = useGalleryServices();
  const query = usePhoto(photoId);
  const deletePhotos = useDeletePhotos();
  const page = useRef<HTMLDivElement>(null);
  const [isInfoShown, setIsInfoShown] = useState(() => window.innerWidth >= WIDE);
  const [zoom, setZoom] = useState({ photoId, isZoomed: false });
  const [original, setOriginal] = useState<{
    readonly photoId: string;
    readonly url: string;
  } | null>(null);
  useCover();
  useModalFocus(page);

  const index = photos.findIndex((each) => each.photoId === photoId);
  const previous = photos[index - 1];
  const next = index < 0 ? undefined : photos[index + 1];
  const detail = query.data ?? null;
  const photo: PhotoSummaryView | null = detail ?? photos[index] ?? null;
  const isZoomed = zoom.photoId === photoId && zoom.isZoomed;
  const originalUrl = original?.photoId === photoId ? original.url : null;
  const isShowable = photo?.status === "COMPLETED" && photo.thumbnails.length > 0;

  useEffect(() => {
    if (hasMore && index >= photos.length - PHOTOS_BEFORE_END) onMore();
  }, [hasMore, index, photos.length, onMore]);
  useEffect(() => {
    for (const near of [next, previous]) {
      const large = near?.thumbnails.toSorted((one, other) => one.size - other.size).at(-1);
      if (large) new Image().src = large.url;
    }
  }, [next, previous]);

  const setIsZoomed = (value: boolean) => {
    setZoom({ photoId, isZoomed: value });
  };
  const step = (by: -1 | 1) => {
    const to = by < 0 ? previous : next;
    if (to) onShow(to.photoId);
  };
  const showOriginal = async () => {
    try {
      const { url } = await calls.downloadUrl(photoId);
      setOriginal({ photoId, url });
      setIsZoomed(true);
    } catch (error) {
      toaster.show({ tone: "danger", title: errorText(t, error) });
    }
  };
  const download = async () => {
    try {
      await followOriginal(calls, photoId);
    } catch (error) {
      toaster.show({ tone: "danger", title: errorText(t, error) });
    }
  };
  const remove = () => {
    if (photo === null) return;
    deletePhotos([photo]);
    const after = next ?? previous;
    if (after) onShow(after.photoId);
    else onClose(photoId);
  };
  const onKey = useEffectEvent((event: KeyboardEvent) => {
    if (event.defaultPrevented) return;
    const isTyping = event.target instanceof HTMLElement && event.target.matches("input");
    if (event.key === "Escape") {
      if (isZoomed) setIsZoomed(false);
      else onClose(photoId);
      return;
    }
    if (isTyping) return;
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key.toLowerCase() === "z" && deletions.undoLatest() !== null)
        event.preventDefault();
      return;
    }
    const isReversed = getComputedStyle(document.documentElement).direction === "rtl";
    if (event.key === "ArrowLeft" && !isZoomed) step(isReversed ? 1 : -1);
    else if (event.key === "ArrowRight" && !isZoomed) step(isReversed ? -1 : 1);
    else if (event.key === "i") setIsInfoShown(!isInfoShown);
    else if (event.key === "z") setIsZoomed(!isZoomed);
    else if (event.key === "+" || event.key === "-") setIsZoomed(event.key === "+");
    else if (event.key === "Delete") remove();
  });
  useEffect(() => {
    // Of the document: a button that had the focus may be gone, and the keys with it.
    const listener = (event: KeyboardEvent) => {
      onKey(event);
    };
    document.addEventListener("keydown", listener);
    return () => {
      document.removeEventListener("keydown", listener);
    };
  }, []);

  const isGone = query.error instanceof ApiError && query.error.status === 404;
  return createPortal(
    <div
      ref={page}
      role="dialog"
      aria-modal
      tabIndex={-1}
      aria-label={photo === null ? t("photo.details") : t("photo.label", { name: photo.filename })}
      className={classes(styles["page"], isInfoShown && styles["withInfo"])}
    >
      <div className={styles["viewer"]}>
        <header className={styles["bar"]}>
          <IconButton
            icon={ArrowLeft}
            label={t("photo.close")}
            className={styles["button"]}
            onClick={() => {
              onClose(photoId);
            }}
          />
          <div className={styles["title"]}>
            <h1 className={styles["name"]} title={photo?.filename}>
              <bdi>{photo?.filename}</bdi>
            </h1>
            {index >= 0 && (
              <p className={styles["position"]}>
                {t(hasMore ? "photo.positionMore" : "photo.position", {
                  position: index + 1,
                  total: photos.length,
                })}
              </p>
            )}
          </div>
          {photo !== null && (
            <>
              {isShowable && isZoomed && originalUrl === null && (
                <Button
                  size="sm"
                  className={styles["original"]}
                  onClick={() => void showOriginal()}
                >
                  {t("photo.original", { size: format.bytes(photo.bytes) })}
                </Button>
              )}
              <IconButton
                icon={Download}
                label={t("photo.download")}
                className={styles["button"]}
                onClick={() => void download()}
              />
              <IconButton
                icon={Trash2}
                label={t("photo.delete")}
                className={styles["button"]}
                onClick={remove}
              />
              <IconButton
                icon={Info}
                label={isInfoShown ? t("photo.hideInfo") : t("photo.info")}
                aria-expanded={isInfoShown}
                className={styles["button"]}
                onClick={() => {
                  setIsInfoShown(!isInfoShown);
                }}
              />
            </>
          )}
        </header>
        <div className={styles["stage"]}>
          {photo !== null && isShowable && (
            <PhotoStage
              key={photoId}
              photo={photo}
              originalUrl={originalUrl}
              isZoomed={isZoomed}
              onZoom={setIsZoomed}
              onStep={step}
              onOriginalFailed={() => {
                setOriginal(null);
                toaster.show({ tone: "warning", title: t("photo.originalFailed") });
              }}
              onBroken={() => void query.refetch()}
            />
          )}
          {photo !== null && !isShowable && <PhotoNotice photo={photo} />}
          {photo === null && query.isError && (
            <Notice
              icon={isGone ? ImageOff : CircleAlert}
              isBad={!isGone}
              title={isGone ? t("photo.goneTitle") : t("photo.errorTitle")}
            >
              <p>{isGone ? t("photo.goneText") : errorText(t, query.error)}</p>
              {isGone ? (
                <Button
                  onClick={() => {
                    onClose(photoId);
                  }}
                >
                  {t("photo.backToPhotos")}
                </Button>
              ) : (
                <Button isLoading={query.isFetching} onClick={() => void query.refetch()}>
                  {t("common.retry")}
                </Button>
              )}
            </Notice>
          )}
          {!isZoomed && (
            <>
              <StepButton
                side="previous"
                target={previous}
                label={t("photo.previous")}
                onStep={step}
              />
              <StepButton side="next" target={next} label={t("photo.next")} onStep={step} />
            </>
          )}
        </div>
      </div>
      {isInfoShown && photo !== null && (
        <aside className={styles["info"]} aria-label={t("photo.details")}>
          <div className={styles["infoHead"]}>
            <h2>{t("photo.details")}</h2>
            <IconButton
              icon={X}
              size="sm"
              label={t("photo.hideInfo")}
              onClick={() => {
                setIsInfoShown(false);
                page.current?.focus();
              }}
            />
          </div>
          <PhotoDetails photo={photo} detail={detail} />
        </aside>
      )}
    </div>,
    document.body,
  );
}

interface StepButtonProps {
  readonly side: "previous" | "next";
  readonly target: PhotoSummaryView | undefined;
  readonly label: string;
  readonly onStep: (by: -1 | 1) => void;
}

function StepButton({ side, target, label, onStep }: StepButtonProps) {
  return (
    <IconButton
      icon={side === "previous" ? ChevronLeft : ChevronRight}
      label={label}
      // Not `disabled`: the focus would be lost at the first and the last photo.
      aria-disabled={target === undefined}
      className={classes(styles["step"], styles[side])}
      onClick={() => {
        onStep(side === "previous" ? -1 : 1);
      }}
    />
  );
}
