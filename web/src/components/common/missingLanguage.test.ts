import { expect, test, vi } from "vitest";
import { reportMissing } from "./missingLanguage";
import { i18n, setLanguage, startI18n } from "@/lib/i18n";
import { toaster } from "@/stores/toastStore";

vi.mock("@/lib/i18n/locales/de.json", () => {
  throw new TypeError("Failed to fetch dynamically imported module");
});

test("a language whose file cannot be loaded leaves English, and the page says so", async () => {
  vi.spyOn(navigator, "languages", "get").mockReturnValue(["de-DE"]);
  await reportMissing(startI18n(null));
  expect(i18n.language).toBe("en");
  expect(i18n.t("common.close")).toBe("Close");
  const titles = () => toaster.store.getState().toasts.map(({ title }) => title);
  expect(titles()).toEqual(["The texts in your language could not be loaded"]);
  expect(await setLanguage("de")).toBe(false);
  await reportMissing(setLanguage("en"));
  expect(titles()).toHaveLength(1);
  expect(document.documentElement.lang).toBe("en");
});
