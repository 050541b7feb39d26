/** Where the floating panel stands; pure. All lengths are CSS pixels. */
import type { PanelPosition } from "@/stores/uiStore";

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Distance from the corner in which the panel stands at first. */
export const HOME: PanelPosition = { end: 24, bottom: 24 };

/** Least distance from the edges of the window. */
export const MARGIN = 8;

/** The nearest position at which the whole panel is in the window. */
export function clampPosition(position: PanelPosition, panel: Size, window: Size): PanelPosition {
  const within = (value: number, size: number, room: number) =>
    Math.max(Math.min(MARGIN, Math.max(0, room - size)), Math.min(value, room - size - MARGIN));
  return {
    end: within(position.end, panel.width, window.width),
    bottom: within(position.bottom, panel.height, window.height),
  };
}

const STEP = 16;
const LARGE_STEP = 64;

export interface Key {
  readonly key: string;
  readonly shiftKey: boolean;
}

/** Where a key moves the panel; `null` for Home: back to the corner. Undefined: no such key. */
export function movedByKey(
  position: PanelPosition,
  { key, shiftKey }: Key,
  isRightToLeft: boolean,
): PanelPosition | null | undefined {
  const step = shiftKey ? LARGE_STEP : STEP;
  const towardsEnd = isRightToLeft ? "ArrowLeft" : "ArrowRight";
  switch (key) {
    case "Home":
      return null;
    case "ArrowUp":
      return { ...position, bottom: position.bottom + step };
    case "ArrowDown":
      return { ...position, bottom: position.bottom - step };
    case "ArrowLeft":
    case "ArrowRight":
      return { ...position, end: position.end + (key === towardsEnd ? -step : step) };
    default:
      return undefined;
  }
}
