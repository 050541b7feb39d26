import {
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
  type KeyboardEvent,
  type PointerEvent,
  type RefObject,
} from "react";
import type { PanelPosition } from "@/stores/uiStore";
import { clampPosition, HOME, movedByKey } from "./panelPosition";

export interface Draggable {
  /** Where it stands now, inside the window. */
  readonly position: PanelPosition;
  readonly isDragging: boolean;
  readonly onPointerDown: (event: PointerEvent<HTMLElement>) => void;
  readonly onKeyDown: (event: KeyboardEvent<HTMLElement>) => void;
}

const isRightToLeft = (element: Element) => getComputedStyle(element).direction === "rtl";

/**
 * Let an element be moved by pointer and by keyboard.
 *
 * @param wanted - where it was put, also if that is outside of the window as it is now; null: home.
 * @param onMove - called when it was put somewhere else.
 */
export function useDraggable(
  element: RefObject<HTMLElement | null>,
  wanted: PanelPosition | null,
  onMove: (position: PanelPosition | null) => void,
): Draggable {
  const [dragged, setDragged] = useState<PanelPosition | null>(null);
  const [sizes, setSizes] = useState({
    panel: { width: 0, height: 0 },
    window: { width: window.innerWidth, height: window.innerHeight },
  });
  const stop = useRef<(() => void) | null>(null);

  useLayoutEffect(() => {
    const measure = () => {
      const panel = element.current;
      const size = { width: panel?.offsetWidth ?? 0, height: panel?.offsetHeight ?? 0 };
      setSizes({
        panel: size,
        window: { width: window.innerWidth, height: window.innerHeight },
      });
    };
    measure();
    window.addEventListener("resize", measure);
    const observer = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(measure);
    if (element.current) observer?.observe(element.current);
    return () => {
      window.removeEventListener("resize", measure);
      observer?.disconnect();
    };
  }, [element]);

  useEffect(() => () => stop.current?.(), []);

  const clamped = (position: PanelPosition) => clampPosition(position, sizes.panel, sizes.window);
  const position = clamped(dragged ?? wanted ?? HOME);

  const onPointerDown = (event: PointerEvent<HTMLElement>) => {
    const isOnControl =
      event.target instanceof Element && event.target.closest("button, a, input") !== null;
    const isOnGrip =
      event.target instanceof Element && event.target.closest("[data-grip]") !== null;
    if (event.button !== 0 || (isOnControl && !isOnGrip)) return;
    const { pointerId, clientX, clientY, currentTarget: handle } = event;
    const sign = isRightToLeft(handle) ? 1 : -1;
    const start = position;
    let latest: PanelPosition | null = null;
    const move = (moved: globalThis.PointerEvent) => {
      if (moved.pointerId !== pointerId) return;
      latest = clamped({
        end: start.end + sign * (moved.clientX - clientX),
        bottom: start.bottom - (moved.clientY - clientY),
      });
      setDragged(latest);
    };
    const end = () => {
      handle.removeEventListener("pointermove", move);
      handle.removeEventListener("pointerup", end);
      handle.removeEventListener("pointercancel", end);
      stop.current = null;
      setDragged(null);
      if (latest) onMove(latest);
    };
    // Without the capture, a fast pointer leaves the header behind.
    handle.setPointerCapture(pointerId);
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", end);
    handle.addEventListener("pointercancel", end);
    stop.current = end;
  };

  const onKeyDown = (event: KeyboardEvent<HTMLElement>) => {
    const moved = movedByKey(position, event, isRightToLeft(event.currentTarget));
    if (moved === undefined) return;
    event.preventDefault();
    onMove(moved && clamped(moved));
  };

  return { position, isDragging: dragged !== null, onPointerDown, onKeyDown };
}
