import { useEffect, useRef, useState, type PointerEvent } from "react";
import { useTranslation } from "react-i18next";
import { classes } from "@/lib/classes";
import type { PhotoSummaryView } from "@/lib/api/schema";
import { useElementSize } from "./useElementSize";
import { enlarged, fitted, swipeStep } from "./zoom";
import styles from "./PhotoStage.module.css";

export interface PhotoStageProps {
  readonly photo: PhotoSummaryView;
  /** Of the original, when it was asked for. */
  readonly originalUrl: string | null;
  readonly isZoomed: boolean;
  readonly onZoom: (isZoomed: boolean) => void;
  readonly onStep: (step: -1 | 1) => void;
  readonly onOriginalFailed: () => void;
  readonly onBroken: () => void;
}

interface Drag {
  readonly pointer: number;
  readonly x: number;
  readonly y: number;
  readonly scrollLeft: number;
  readonly scrollTop: number;
}

/** The photo as large as there is room, or enlarged and moved with the pointer. */
export function PhotoStage(props: PhotoStageProps) {
  const { photo, originalUrl, isZoomed, onZoom, onStep, onOriginalFailed, onBroken } = props;
  const { t } = useTranslation();
  const [stage, measure] = useElementSize();
  const scroller = useRef<HTMLDivElement>(null);
  const drag = useRef<Drag | null>(null);
  const hasMoved = useRef(false);
  const [shift, setShift] = useState(0);

  const sorted = photo.thumbnails.toSorted((one, other) => one.size - other.size);
  const [small, large] = [sorted[0], sorted.at(-1)];
  const own = {
    width: photo.width ?? large?.width ?? 0,
    height: photo.height ?? large?.height ?? 0,
  };
  const size = isZoomed ? enlarged(own, stage, window.devicePixelRatio) : fitted(own, stage);

  useEffect(() => {
    const element = scroller.current;
    if (element === null || !isZoomed) return;
    element.scrollLeft = (element.scrollWidth - element.clientWidth) / 2;
    element.scrollTop = (element.scrollHeight - element.clientHeight) / 2;
  }, [isZoomed, photo.photoId]);

  const onPointerDown = (event: PointerEvent<HTMLElement>) => {
    hasMoved.current = false;
    if (event.button !== 0 || !event.isPrimary) return;
    // Fingers scroll an enlarged photo by themselves.
    if (isZoomed && event.pointerType !== "mouse") return;
    const element = event.currentTarget;
    drag.current = {
      pointer: event.pointerId,
      x: event.clientX,
      y: event.clientY,
      scrollLeft: element.scrollLeft,
      scrollTop: element.scrollTop,
    };
  };
  const onPointerMove = (event: PointerEvent<HTMLElement>) => {
    const from = drag.current;
    if (from?.pointer !== event.pointerId) return;
    const [x, y] = [event.clientX - from.x, event.clientY - from.y];
    if (!hasMoved.current && Math.hypot(x, y) > 6) {
      hasMoved.current = true;
      event.currentTarget.setPointerCapture(event.pointerId);
    }
    if (!hasMoved.current) return;
    if (isZoomed) {
      event.currentTarget.scrollLeft = from.scrollLeft - x;
      event.currentTarget.scrollTop = from.scrollTop - y;
    } else setShift(x);
  };
  const onPointerUp = (event: PointerEvent<HTMLElement>) => {
    const from = drag.current;
    drag.current = null;
    setShift(0);
    if (from?.pointer !== event.pointerId || isZoomed) return;
    const moved = { x: event.clientX - from.x, y: event.clientY - from.y };
    const step = swipeStep(moved, getComputedStyle(event.currentTarget).direction === "rtl");
    if (step !== 0) onStep(step);
  };
  const onPointerCancel = () => {
    drag.current = null;
    setShift(0);
  };

  if (large === undefined || small === undefined) return null;
  return (
    <div className={styles["room"]} ref={measure}>
      <div
        ref={scroller}
        className={classes(styles["scroller"], isZoomed && styles["zoomed"])}
        onPointerDown={onPointerDown}
        onPointerMove={onPointerMove}
        onPointerUp={onPointerUp}
        onPointerCancel={onPointerCancel}
      >
        <button
          type="button"
          className={styles["frame"]}
          aria-label={isZoomed ? t("photo.zoomOut") : t("photo.zoomIn")}
          aria-pressed={isZoomed}
          style={{
            inlineSize: size.width,
            blockSize: size.height,
            transform: shift === 0 ? undefined : `translateX(${shift}px)`,
          }}
          onClick={() => {
            if (!hasMoved.current) onZoom(!isZoomed);
          }}
        >
          <img className={styles["layer"]} src={small.url} alt="" draggable={false} />
          {size.width > small.width && (
            <Layer key={large.url} url={large.url} alt={photo.filename} onError={onBroken} />
          )}
          {originalUrl !== null && (
            <Layer key={originalUrl} url={originalUrl} alt="" onError={onOriginalFailed} />
          )}
        </button>
      </div>
    </div>
  );
}

interface LayerProps {
  readonly url: string;
  readonly alt: string;
  readonly onError: () => void;
}

function Layer({ url, alt, onError }: LayerProps) {
  const [isLoaded, setIsLoaded] = useState(false);
  return (
    <img
      className={classes(styles["layer"], styles["fading"], isLoaded && styles["loaded"])}
      src={url}
      alt={alt}
      draggable={false}
      decoding="async"
      onLoad={() => {
        setIsLoaded(true);
      }}
      onError={onError}
    />
  );
}
