import { useCallback, useState } from "react";
import type { Size } from "./zoom";

const UNKNOWN: Size = { width: 0, height: 0 };

/** The inner size of an element in pixels, zero before it is known, and the ref that it takes. */
export function useElementSize(): readonly [
  Size,
  (element: HTMLElement | null) => (() => void) | undefined,
] {
  const [size, setSize] = useState(UNKNOWN);
  const ref = useCallback((element: HTMLElement | null) => {
    if (element === null) return undefined;
    const measure = () => {
      const { width, height } = element.getBoundingClientRect();
      // Whole pixels: a fraction would change the layout of the grid with each step of a resize.
      const measured = { width: Math.floor(width), height: Math.floor(height) };
      // Without its scroll bar the page is wider; what is behind a dialog keeps its layout, once it
      // has one: nothing else may measure it when the dialog is closed.
      const isCovered = element.closest("[inert]") !== null;
      setSize((known) => (isCovered && known !== UNKNOWN ? known : measured));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => {
      observer.disconnect();
    };
  }, []);
  return [size, ref];
}
