import { memo, useState, type MouseEvent } from "react";
import { useTranslation } from "react-i18next";
import {
  Check,
  CircleAlert,
  Clock,
  CloudUpload,
  ImageOff,
  LoaderCircle,
  Ban,
} from "@/design/icons";
import { classes } from "@/lib/classes";
import type { PhotoSummaryView } from "@/lib/api/schema";
import { photoReason } from "./reasons";
import styles from "./PhotoTile.module.css";

export interface PhotoTileProps {
  readonly photo: PhotoSummaryView;
  readonly href: string;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly isSelected: boolean;
  /** Whether a click selects rather than opens. */
  readonly isSelecting: boolean;
  /** Whether Tab leads here: one photo of the grid. */
  readonly isTabStop: boolean;
  readonly onOpen: (id: string) => void;
  readonly onSelect: (id: string, isRange: boolean) => void;
  readonly onFocus: (id: string) => void;
  readonly onBroken: () => void;
}

/** A photo of the grid: its thumbnail, or why there is none. */
export const PhotoTile = memo(function PhotoTile({
  photo,
  href,
  width,
  height,
  isSelected,
  isSelecting,
  isTabStop,
  onOpen,
  onSelect,
  onFocus,
  onBroken,
}: PhotoTileProps) {
  const { t } = useTranslation();
  const id = photo.photoId;
  const open = (event: MouseEvent) => {
    // Keys of the browser for new tabs and windows keep their meaning while nothing is selected.
    const isOfBrowser = event.metaKey || event.ctrlKey || event.button !== 0;
    if (isOfBrowser && !isSelecting) return;
    event.preventDefault();
    if (isSelecting || event.shiftKey) onSelect(id, event.shiftKey);
    else onOpen(id);
  };
  return (
    <div
      className={classes(
        styles["tile"],
        isSelected && styles["selected"],
        isSelecting && styles["selecting"],
      )}
    >
      <a
        className={styles["link"]}
        href={href}
        draggable={false}
        tabIndex={isTabStop ? 0 : -1}
        data-photo={id}
        onClick={open}
        onFocus={() => {
          onFocus(id);
        }}
      >
        <Picture photo={photo} width={width} height={height} onBroken={onBroken} />
      </a>
      <span className={styles["name"]} aria-hidden>
        <bdi>{photo.filename}</bdi>
      </span>
      <button
        type="button"
        role="checkbox"
        aria-checked={isSelected}
        aria-label={t("gallery.selectPhoto", { name: photo.filename })}
        tabIndex={isTabStop ? 0 : -1}
        className={styles["check"]}
        onClick={(event) => {
          onSelect(id, event.shiftKey);
        }}
      >
        <span className={styles["mark"]}>
          <Check aria-hidden size={14} strokeWidth={3} />
        </span>
      </button>
    </div>
  );
});

interface PictureProps {
  readonly photo: PhotoSummaryView;
  readonly width: number;
  readonly height: number;
  readonly onBroken: () => void;
}

function Picture({ photo, width, height, onBroken }: PictureProps) {
  const [state, setState] = useState<"loading" | "loaded" | "broken">("loading");
  const sorted = photo.thumbnails.toSorted((one, other) => one.size - other.size);
  const smallest = sorted[0];
  if (photo.status !== "COMPLETED" || smallest === undefined || state === "broken") {
    return <Placeholder photo={photo} isSmall={width < 140 || height < 120} />;
  }
  return (
    <img
      className={classes(styles["picture"], state === "loaded" && styles["loaded"])}
      src={smallest.url}
      srcSet={sorted.map((each) => `${each.url} ${each.width}w`).join(", ")}
      sizes={`${width}px`}
      width={width}
      height={height}
      alt={photo.filename}
      loading="lazy"
      decoding="async"
      draggable={false}
      onLoad={() => {
        setState("loaded");
      }}
      onError={() => {
        setState("broken");
        onBroken();
      }}
    />
  );
}

const ICONS = {
  QUEUED: Clock,
  UPLOADING: CloudUpload,
  PROCESSING: LoaderCircle,
  COMPLETED: ImageOff,
  FAILED: CircleAlert,
  CANCELLED: Ban,
} as const;

function Placeholder({
  photo,
  isSmall,
}: {
  readonly photo: PhotoSummaryView;
  readonly isSmall: boolean;
}) {
  const { t } = useTranslation();
  const Icon = ICONS[photo.status];
  const isBad =
    photo.status === "FAILED" || (photo.status === "COMPLETED" && photo.reason !== null);
  const state =
    photo.status === "COMPLETED" ? t("gallery.noPreview") : t(`gallery.status.${photo.status}`);
  const reason = isBad ? (photoReason(t, photo) ?? t("gallery.unknownReason")) : null;
  return (
    <span
      className={classes(styles["placeholder"], isBad && styles["bad"], isSmall && styles["small"])}
      title={reason ?? undefined}
    >
      <Icon
        aria-hidden
        size={isSmall ? 20 : 24}
        strokeWidth={1.75}
        className={classes(photo.status === "PROCESSING" && styles["spinning"])}
      />
      <span className={styles["state"]}>{state}</span>
      <span className={styles["what"]}>
        <bdi>{photo.filename}</bdi>
      </span>
      {reason !== null && (
        <span className={isSmall ? "visually-hidden" : styles["reason"]}>{reason}</span>
      )}
    </span>
  );
}
