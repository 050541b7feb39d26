/** Render components with made-up uploads, in English, in a window of a desktop. */
import type { ReactElement } from "react";
import { render, type RenderResult } from "@testing-library/react";
import { vi } from "vitest";
import { preloadLists } from "@/components/upload/lazyLists";
import { UploadProvider } from "@/hooks/useUpload";
import { setLanguage, startI18n } from "@/lib/i18n";
import { DEFAULT_SETTINGS, uiStore } from "@/stores/uiStore";
import type { FakeUploads } from "../dev/fakeUploads";

/** jsdom has no layout: rows have these heights, everything else that of a panel. Pixels. */
const ROW_HEIGHT = 80;
const OTHER_HEIGHT = 480;

/** What jsdom lacks, and a fresh state. For `beforeEach`. */
export async function prepareBrowser(width = 1280): Promise<void> {
  localStorage.clear();
  uiStore.setState({ ...DEFAULT_SETTINGS, isSheetOpen: false });
  vi.stubGlobal("innerWidth", width);
  vi.stubGlobal("innerHeight", 800);
  vi.stubGlobal("matchMedia", (query: string) => {
    const [, kind, limit] = /\((min|max)-width: (\d+)px\)/.exec(query) ?? [];
    return {
      matches: kind === "min" ? width >= Number(limit) : kind === "max" && width <= Number(limit),
      addEventListener: () => undefined,
      removeEventListener: () => undefined,
    };
  });
  vi.spyOn(HTMLElement.prototype, "offsetHeight", "get").mockImplementation(function (
    this: HTMLElement,
  ) {
    return this.dataset["index"] === undefined ? OTHER_HEIGHT : ROW_HEIGHT;
  });
  vi.spyOn(HTMLElement.prototype, "offsetWidth", "get").mockReturnValue(400);
  vi.spyOn(Element.prototype, "clientWidth", "get").mockReturnValue(400);
  vi.spyOn(Element.prototype, "clientHeight", "get").mockReturnValue(OTHER_HEIGHT);
  Object.assign(HTMLDialogElement.prototype, {
    showModal(this: HTMLDialogElement) {
      this.open = true;
    },
    close(this: HTMLDialogElement) {
      this.open = false;
    },
  });
  await startI18n("en");
  await setLanguage("en");
  await preloadLists();
}

export function renderWith(uploads: FakeUploads, element: ReactElement): RenderResult {
  return render(<UploadProvider engine={uploads}>{element}</UploadProvider>);
}
