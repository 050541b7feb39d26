// @vitest-environment node
import fc from "fast-check";
import { expect, test } from "vitest";
import { clampPosition, HOME, MARGIN, movedByKey } from "./panelPosition";

const length = fc.integer({ min: 0, max: 4000 });
const place = fc.record({
  end: fc.integer({ min: -9000, max: 9000 }),
  bottom: fc.integer({ min: -9000, max: 9000 }),
});
const size = fc.record({ width: length, height: length });

test("the panel stays inside of the window, if it fits", () => {
  fc.assert(
    fc.property(place, size, size, (wanted, panel, window) => {
      const { end, bottom } = clampPosition(wanted, panel, window);
      expect(end).toBeGreaterThanOrEqual(0);
      expect(bottom).toBeGreaterThanOrEqual(0);
      if (panel.width <= window.width) expect(end + panel.width).toBeLessThanOrEqual(window.width);
      if (panel.height <= window.height) {
        expect(bottom + panel.height).toBeLessThanOrEqual(window.height);
      }
    }),
  );
});

test("a place inside of the window is kept", () => {
  const window = { width: 1280, height: 800 };
  const panel = { width: 400, height: 600 };
  expect(clampPosition({ end: 100, bottom: 50 }, panel, window)).toEqual({ end: 100, bottom: 50 });
  expect(clampPosition({ end: -5, bottom: 900 }, panel, window)).toEqual({
    end: MARGIN,
    bottom: 192,
  });
});

test.each([
  ["ArrowLeft", false, false, { end: 40, bottom: 24 }],
  ["ArrowRight", false, false, { end: 8, bottom: 24 }],
  ["ArrowLeft", false, true, { end: 8, bottom: 24 }],
  ["ArrowUp", false, false, { end: 24, bottom: 40 }],
  ["ArrowDown", true, false, { end: 24, bottom: -40 }],
  ["Home", false, false, null],
  ["a", false, false, undefined],
])("the key %s (shift: %s, right to left: %s) moves it to %j", (key, shiftKey, rtl, expected) => {
  expect(movedByKey(HOME, { key, shiftKey }, rtl)).toEqual(expected);
});
