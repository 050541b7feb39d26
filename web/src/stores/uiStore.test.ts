import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { createUiStore, DEFAULT_SETTINGS, readSettings } from "./uiStore";

beforeEach(() => {
  localStorage.clear();
});

test("settings are kept over a reload", () => {
  createUiStore()
    .getState()
    .set({ theme: "dark", tab: "failed", position: { end: 5, bottom: 7 }, isCollapsed: true });
  expect(createUiStore().getState()).toMatchObject({
    theme: "dark",
    tab: "failed",
    position: { end: 5, bottom: 7 },
    isCollapsed: true,
  });
});

test("anything in storage gives valid settings", () => {
  fc.assert(
    fc.property(fc.anything(), (stored) => {
      const settings = readSettings(stored);
      expect(Object.keys(settings)).toEqual(Object.keys(DEFAULT_SETTINGS));
      expect(settings.concurrency).toBeGreaterThanOrEqual(1);
      expect(settings.concurrency).toBeLessThanOrEqual(100);
    }),
  );
});

test("settings of another version are taken one by one", () => {
  expect(
    readSettings({ theme: "pink", language: "de", concurrency: 4711, position: { end: "1" } }),
  ).toEqual({ ...DEFAULT_SETTINGS, language: "de", concurrency: 100 });
});
