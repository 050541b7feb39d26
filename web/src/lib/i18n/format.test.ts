// @vitest-environment node
import { expect, test } from "vitest";
import { createFormat } from "./format";

const english = createFormat("en");
const german = createFormat("de");
const plain = (text: string) => text.replaceAll(/[\u00a0\u202f]/g, " ");

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "0.977 KiB"],
  [1536, "1.5 KiB"],
  [1023 * 1024, "0.999 MiB"],
  [200 * 1024 ** 2, "200 MiB"],
  [1.5 * 1024 ** 3, "1.5 GiB"],
])("%d bytes are written as the command line writes them", (bytes, text) => {
  expect(plain(english.bytes(bytes))).toBe(text);
});

test("sizes never round up to four digits", () => {
  for (let bytes = 1; bytes < 2 ** 50; bytes = Math.ceil(bytes * 1.0137)) {
    expect(plain(english.bytes(bytes))).toMatch(/^(?:\d{1,3}|\d{1,2}\.\d|\d\.\d\d|0\.\d{3}) /);
  }
});

test("numbers and sizes follow the language", () => {
  expect(plain(german.bytes(1.5 * 1024 ** 2))).toBe("1,5 MiB");
  expect(german.number(1234)).toBe("1.234");
  expect([999, 1000].map((count) => german.badge(count))).toEqual(["999", "999+"]);
  expect(plain(german.percent(0.429))).toBe("42 %");
});

test.each([
  [0.994, "99%"],
  [0.999, "99%"],
  [1, "100%"],
  [0.29, "29%"],
  [1.2, "100%"],
  [-1, "0%"],
])("a share of %d is %s: 100 %% is shown when all is done", (share, text) => {
  expect(english.percent(share)).toBe(text);
});

test.each([
  [0.2, "1 sec"],
  [59, "59 sec"],
  [61, "2 min"],
  [3600, "1 hr"],
  [3900, "1 hr 5 min"],
  [200_000, "3 days"],
])("%d seconds are written as %s", (seconds, text) => {
  expect(plain(english.duration(seconds))).toBe(text);
});
