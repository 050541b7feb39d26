import fc from "fast-check";
import { expect, it } from "vitest";
import { enlarged, fitted, swipeStep } from "./zoom";

const size = fc.record({
  width: fc.integer({ min: 1, max: 20_000 }),
  height: fc.integer({ min: 1, max: 20_000 }),
});

it("fits a photo into the stage and never enlarges it", () => {
  fc.assert(
    fc.property(size, size, (photo, stage) => {
      const shown = fitted(photo, stage);
      expect(shown.width).toBeLessThanOrEqual(Math.min(photo.width, stage.width));
      expect(shown.height).toBeLessThanOrEqual(Math.min(photo.height, stage.height));
    }),
  );
});

it("enlarges to the photo's own pixels, at least twice and at most eight times", () => {
  const stage = { width: 1000, height: 800 };
  expect(enlarged({ width: 4000, height: 3000 }, stage, 1)).toEqual({ width: 4000, height: 3000 });
  expect(enlarged({ width: 4000, height: 3000 }, stage, 2)).toEqual({ width: 2000, height: 1500 });
  expect(enlarged({ width: 500, height: 400 }, stage, 1)).toEqual({ width: 1000, height: 800 });
  expect(enlarged({ width: 20_000, height: 16_000 }, stage, 1)).toEqual({
    width: 8000,
    height: 6400,
  });
});

it("shows nothing while a size is unknown", () => {
  expect(fitted({ width: 0, height: 0 }, { width: 100, height: 100 })).toEqual({
    width: 0,
    height: 0,
  });
});

it.each([
  [{ x: -80, y: 10 }, false, 1],
  [{ x: 80, y: 10 }, false, -1],
  [{ x: -80, y: 10 }, true, -1],
  [{ x: -80, y: 70 }, false, 0],
  [{ x: -30, y: 0 }, false, 0],
] as const)(
  "takes a move of %j (right to left: %s) for the step %d",
  (moved, isRightToLeft, step) => {
    expect(swipeStep(moved, isRightToLeft)).toBe(step);
  },
);
