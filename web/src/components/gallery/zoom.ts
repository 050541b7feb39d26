/** How large a photo is shown. Pure. */

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** A photo smaller than this part of the stage may still be enlarged to be seen in detail. */
const LEAST_ZOOM = 2;
const MOST_ZOOM = 8;

/** Return the size in CSS pixels at which the whole photo is seen; never above its own pixels. */
export function fitted(photo: Size, stage: Size): Size {
  const isKnown = photo.width > 0 && photo.height > 0 && stage.width > 0 && stage.height > 0;
  if (!isKnown) return { width: 0, height: 0 };
  const scale = Math.min(stage.width / photo.width, stage.height / photo.height, 1);
  return { width: Math.round(photo.width * scale), height: Math.round(photo.height * scale) };
}

/**
 * Return the size when zoomed in: one pixel of the photo for one of the screen where that is
 * two to eight times the fitted size, else the nearer of both.
 *
 * @param pixelRatio - device pixels of a CSS pixel.
 */
export function enlarged(photo: Size, stage: Size, pixelRatio: number): Size {
  const fit = fitted(photo, stage);
  if (fit.width === 0) return fit;
  const own = photo.width / Math.max(1, pixelRatio) / fit.width;
  const zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, own));
  return { width: Math.round(fit.width * zoom), height: Math.round(fit.height * zoom) };
}

/** Pixels that a finger moves for the next photo, and how much more across than along. */
const SWIPE = { pixels: 56, slope: 1.4 } as const;

/** Return the step of a swipe: 1 for the next photo, -1 for the previous one, 0 for none. */
export function swipeStep(
  moved: { readonly x: number; readonly y: number },
  isRightToLeft: boolean,
): -1 | 0 | 1 {
  const isAcross =
    Math.abs(moved.x) >= SWIPE.pixels && Math.abs(moved.x) > Math.abs(moved.y) * SWIPE.slope;
  if (!isAcross) return 0;
  return moved.x < 0 !== isRightToLeft ? 1 : -1;
}
