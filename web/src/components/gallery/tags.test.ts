import { expect, it } from "vitest";
import { normalizeTag, suggestTags } from "./tags";

const TAGS = [
  { label: "Berge", count: 3 },
  { label: "Winterberge", count: 40 },
  { label: "Bergsee", count: 9 },
  { label: "Stadt", count: 99 },
];

it("takes blanks off a tag, and more characters than the gateway takes", () => {
  expect(normalizeTag("  zum \n Drucken ")).toBe("zum Drucken");
  expect(normalizeTag("   ")).toBe("");
  expect(Array.from(normalizeTag("🏔".repeat(80)))).toHaveLength(64);
  expect(normalizeTag("a\u0308")).toBe("ä");
});

it("suggests what begins with the text before what contains it", () => {
  expect(suggestTags(TAGS, "berg", []).map((tag) => tag.label)).toEqual([
    "Bergsee",
    "Berge",
    "Winterberge",
  ]);
});

it("suggests the most used first without a text, and none that the photo has", () => {
  expect(suggestTags(TAGS, "", ["Stadt"]).map((tag) => tag.label)).toEqual([
    "Winterberge",
    "Bergsee",
    "Berge",
  ]);
});
