// @vitest-environment node
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const css = readFileSync("src/design/tokens.css", "utf8");

const colours = new Map<string, readonly [light: string, dark: string]>();
for (const [, name, value] of css.matchAll(/--color-([\w-]+):\s*([^;]+);/g)) {
  if (name === undefined || value === undefined) continue;
  const pair = /^light-dark\((#\w{6}), (#\w{6})\)$/.exec(value);
  if (pair?.[1] !== undefined && pair[2] !== undefined) colours.set(name, [pair[1], pair[2]]);
  else if (/^#\w{6}$/.test(value)) colours.set(name, [value, value]);
}

function luminance(hex: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((start) => {
    const channel = Number.parseInt(hex.slice(start, start + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

const SURFACES = ["canvas", "surface", "raised", "sunken", "hover", "active"];
const TONES = ["info", "success", "warning", "danger"];

/** Text in use, as [text, ground]: 4.5:1. */
const TEXT: readonly (readonly [string, string])[] = [
  ...SURFACES.flatMap((ground) =>
    ["text", "text-muted", "text-subtle"].map((text) => [text, ground] as const),
  ),
  ...["canvas", "surface", "raised", "sunken", "hover"].flatMap((ground) =>
    ["accent-text", ...TONES.map((tone) => `${tone}-text`)].map((text) => [text, ground] as const),
  ),
  ...TONES.map((tone) => [`${tone}-text`, `${tone}-soft`] as const),
  ...["text", "text-muted"].flatMap((text) =>
    [...TONES.map((tone) => `${tone}-soft`), "accent-soft"].map(
      (ground) => [text, ground] as const,
    ),
  ),
  ["accent-text", "accent-soft"],
  ["on-accent", "accent"],
  ["on-accent", "accent-hover"],
  ["on-accent", "accent-active"],
  ["on-danger", "danger"],
  ["on-danger", "danger-hover"],
];

/** Bars, rings of focus, edges of fields, as [graphic, ground]: 3:1 (WCAG 1.4.11). */
const GRAPHICS: readonly (readonly [string, string])[] = [
  ...["canvas", "surface", "raised", "sunken"].flatMap((ground) =>
    ["focus", "line-strong"].map((graphic) => [graphic, ground] as const),
  ),
  ...["surface", "raised", "track", "hover"].flatMap((ground) =>
    ["accent-text", ...TONES.map((tone) => `${tone}-fill`)].map(
      (graphic) => [graphic, ground] as const,
    ),
  ),
];

test.each([
  ...TEXT.map(([text, ground]) => [text, ground, 4.5] as const),
  ...GRAPHICS.map(([text, ground]) => [text, ground, 3] as const),
])("%s on %s has a contrast of %d in both themes", (text, ground, least) => {
  const fore = colours.get(text);
  const back = colours.get(ground);
  if (!fore || !back) throw new Error(`no token ${text} or ${ground}`);
  expect(contrast(fore[0], back[0]), "light").toBeGreaterThanOrEqual(least);
  expect(contrast(fore[1], back[1]), "dark").toBeGreaterThanOrEqual(least);
});
