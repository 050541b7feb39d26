// @vitest-environment node
import fc from "fast-check";
import { expect, test } from "vitest";
import { isPhoto, splitName } from "./names";

test.each([
  ["IMG_2041.jpg", ["IMG_2", "041.jpg"]],
  ["a.gif", ["a", ".gif"]],
  ["photo", ["p", "hoto"]],
  ["صورة العائلة.jpg", ["صورة العائلة", ".jpg"]],
  ["summer 12.jpg", ["summer ", "12.jpg"]],
])("the name %s keeps its end", (name, parts) => {
  expect(splitName(name)).toEqual(parts);
});

test("a name is split without a loss, and not inside of a character", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (name) => {
      const [head, tail] = splitName(name);
      expect(head + tail).toBe(name);
      expect(head).not.toBe("");
      const whole = [...new Intl.Segmenter().segment(name)].map(({ index }) => index);
      expect([...whole, name.length]).toContain(head.length);
    }),
  );
});

test.each([
  ["a.JPG", "", true],
  ["a.heic", "", true],
  ["a", "image/png", true],
  ["notes.txt", "text/plain", false],
  [".DS_Store", "", false],
  ["._IMG_1.jpg", "image/jpeg", false],
  ["jpg", "", false],
])("%s of type %j is a photo of a folder: %s", (name, type, expected) => {
  expect(isPhoto({ name, type })).toBe(expected);
});
