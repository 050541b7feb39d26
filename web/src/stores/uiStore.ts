/** What people have set for the look of the page; kept in `localStorage` as `sluice.ui`. */
import { useStore } from "zustand";
import { createJSONStorage, persist, type StateStorage } from "zustand/middleware";
import { createStore, type StoreApi } from "zustand/vanilla";
import { THEMES, type Theme } from "@/design/theme";

export const PANEL_TABS = ["all", "active", "completed", "failed"] as const;

export type PanelTab = (typeof PANEL_TABS)[number];

/** Distance of the panel from the end and the bottom of the window, in CSS pixels. */
export interface PanelPosition {
  readonly end: number;
  readonly bottom: number;
}

export interface UiSettings {
  readonly theme: Theme;
  /** A language of `lib/i18n`; null: that of the browser. */
  readonly language: string | null;
  /** Uploads at once, 1 to 100. */
  readonly concurrency: number;
  readonly tab: PanelTab;
  /** Null: the corner. */
  readonly position: PanelPosition | null;
  /** Null: as there is room for it. */
  readonly isCollapsed: boolean | null;
}

export interface UiState extends UiSettings {
  /** Whether the sheet is open that the panel is on phones. Not kept: it hides the page. */
  readonly isSheetOpen: boolean;
  set(settings: Partial<UiSettings>): void;
  /** Open or close the panel, whichever form it has. */
  showPanel(isShown: boolean): void;
}

export const DEFAULT_SETTINGS: UiSettings = {
  theme: "auto",
  language: null,
  concurrency: 100,
  tab: "all",
  position: null,
  isCollapsed: null,
};

const isNumber = (value: unknown): value is number => Number.isFinite(value);

/** Take from storage what is valid: another version may have written it. */
export function readSettings(stored: unknown): UiSettings {
  if (typeof stored !== "object" || stored === null) return DEFAULT_SETTINGS;
  const given: { readonly [Key in keyof UiSettings]?: unknown } = stored;
  const position: unknown = given.position;
  const isPosition =
    typeof position === "object" &&
    position !== null &&
    "end" in position &&
    "bottom" in position &&
    isNumber(position.end) &&
    isNumber(position.bottom);
  return {
    theme: THEMES.find((theme) => theme === given.theme) ?? DEFAULT_SETTINGS.theme,
    language: typeof given.language === "string" ? given.language : null,
    concurrency: isNumber(given.concurrency)
      ? clampConcurrency(given.concurrency)
      : DEFAULT_SETTINGS.concurrency,
    tab: PANEL_TABS.find((tab) => tab === given.tab) ?? DEFAULT_SETTINGS.tab,
    position: isPosition ? { end: Number(position.end), bottom: Number(position.bottom) } : null,
    isCollapsed: typeof given.isCollapsed === "boolean" ? given.isCollapsed : null,
  };
}

export function clampConcurrency(uploads: number): number {
  return Math.min(100, Math.max(1, Math.round(uploads)));
}

/** Storage that may be forbidden or full: then the settings last as long as the page. */
const storage: StateStorage = {
  getItem(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  },
  setItem(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      // Nothing depends on it.
    }
  },
  removeItem(name) {
    try {
      localStorage.removeItem(name);
    } catch {
      // Nothing depends on it.
    }
  },
};

export function createUiStore() {
  return createStore<UiState>()(
    persist(
      (set) => ({
        ...DEFAULT_SETTINGS,
        isSheetOpen: false,
        set(settings) {
          set(settings);
        },
        showPanel(isShown) {
          set({ isSheetOpen: isShown, isCollapsed: !isShown });
        },
      }),
      {
        name: "sluice.ui",
        version: 1,
        storage: createJSONStorage(() => storage),
        partialize: ({ theme, language, concurrency, tab, position, isCollapsed }): UiSettings => ({
          theme,
          language,
          concurrency,
          tab,
          position,
          isCollapsed,
        }),
        merge: (stored, current) => ({ ...current, ...readSettings(stored) }),
      },
    ),
  );
}

/** The one of the page. */
export const uiStore: StoreApi<UiState> = createUiStore();

export function useUi<Part>(selector: (state: UiState) => Part): Part {
  return useStore(uiStore, selector);
}
