/** Sizes of the grid by its width, in pixels. */
import type { LayoutOptions } from "./layout";

export function gridOptions(width: number): LayoutOptions {
  if (width < 560) return { width, rowHeight: 116, gap: 4, headingHeight: 44 };
  if (width < 900) return { width, rowHeight: 164, gap: 6, headingHeight: 52 };
  return { width, rowHeight: 208, gap: 8, headingHeight: 56 };
}
