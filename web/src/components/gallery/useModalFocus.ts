/** Keep the focus within an element that lies over the page. */
import { useEffect, type RefObject } from "react";

const FOCUSABLE =
  'a[href], button:not(:disabled), input:not(:disabled), select, textarea, [tabindex]:not([tabindex="-1"])';

/**
 * Take the focus, let Tab go round within the element, and keep the page behind from scrolling.
 *
 * Not a <dialog>: messages of the page, such as the one with which a deletion is undone, have to
 * stay above it and in reach.
 */
export function useModalFocus(element: RefObject<HTMLElement | null>): void {
  useEffect(() => {
    const modal = element.current;
    if (modal === null) return;
    modal.focus({ preventScroll: true });
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key !== "Tab") return;
      const reachable = [...modal.querySelectorAll<HTMLElement>(FOCUSABLE)].filter((each) =>
        each.checkVisibility(),
      );
      const [first, last] = [reachable[0], reachable.at(-1)];
      const active = document.activeElement;
      // The button that had the focus may be gone.
      const isLost = active === null || active === document.body;
      const isAtEdge = active === (event.shiftKey ? first : last);
      if (!isLost && !isAtEdge && !(active === modal && event.shiftKey)) return;
      event.preventDefault();
      (event.shiftKey ? last : first)?.focus();
    };
    document.addEventListener("keydown", onKeyDown);
    const root = document.documentElement;
    const before = root.style.overflow;
    root.style.overflow = "hidden";
    return () => {
      document.removeEventListener("keydown", onKeyDown);
      root.style.overflow = before;
    };
  }, [element]);
}
