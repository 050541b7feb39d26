/** The theme of the page: that of the system, or the one that was chosen. */

export const THEMES = ["auto", "dark", "light"] as const;

export type Theme = (typeof THEMES)[number];

/** Canvas of both themes, for the browser's own bars. Keep in step with tokens.css. */
const CANVAS = { dark: "#0d0b13", light: "#f6f4fb" } as const;

/**
 * Show a theme. `public/assets/theme.js` does the same before the first paint, from what the
 * browser has stored, so that no other theme flashes up.
 */
export function applyTheme(theme: Theme): void {
  const root = document.documentElement;
  if (theme === "auto") delete root.dataset["theme"];
  else root.dataset["theme"] = theme;
  for (const meta of document.querySelectorAll<HTMLMetaElement>('meta[name="theme-color"]')) {
    const ofSystem = meta.media.includes("light") ? "light" : "dark";
    meta.content = CANVAS[theme === "auto" ? ofSystem : theme];
  }
}
