// @vitest-environment node
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import de from "./locales/de.json";
import en from "./locales/en.json";

function textsOf(value: object, prefix = ""): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const [key, entry] of Object.entries<unknown>({ ...value })) {
    const path = prefix === "" ? key : `${prefix}.${key}`;
    if (typeof entry === "string") texts.set(path, entry);
    else if (typeof entry === "object" && entry !== null) {
      for (const [nested, text] of textsOf(entry, path)) texts.set(nested, text);
    }
  }
  return texts;
}

const placeholders = (text: string) =>
  [...text.matchAll(/\{\{\s*(\w+)/g)].map(([, name]) => name).sort();

const english = textsOf(en);
const german = textsOf(de);

test("both languages have the same keys", () => {
  expect([...german.keys()].sort()).toEqual([...english.keys()].sort());
});

test("both languages have the same placeholders and no empty text", () => {
  for (const [key, text] of english) {
    expect(placeholders(german.get(key) ?? ""), key).toEqual(placeholders(text));
    expect(text.trim(), key).not.toBe("");
    expect(german.get(key)?.trim(), key).not.toBe("");
  }
});

test("each plural has both of its forms", () => {
  for (const key of english.keys()) {
    const [, stem] = /^(.*)_(?:one|other)$/.exec(key) ?? [];
    if (stem !== undefined) {
      expect(english.has(`${stem}_one`) && english.has(`${stem}_other`), key).toBe(true);
    }
  }
});

/** Reasons in the rows of the tables of a page that list some. */
function reasonsOf(page: string, isReasonRow: (row: string) => boolean): readonly string[] {
  const rows = readFileSync(`../docs/${page}`, "utf8").split("\n").filter(isReasonRow);
  return rows.flatMap((row) =>
    [...row.matchAll(/`(?!SLUICE_)([A-Z][A-Z_]{2,}[A-Z])`/g)].flatMap(([, reason]) => reason ?? []),
  );
}

const isStatusRow = (row: string) => /^\| \d{3}/.test(row);

const DOCUMENTED: Readonly<Record<string, readonly string[]>> = {
  "gateway.md": [
    ...reasonsOf("gateway.md", isStatusRow),
    ...reasonsOf("gateway.md", (row) => row.includes("| FAILED, ")),
    ...reasonsOf("gateway.md", (row) => /^\|.*\| (?:4\d\d|5\d\d) `/.test(row)),
  ],
  "photos.md": reasonsOf("photos.md", (row) => /^\|.*\| `BAD_/.test(row)).filter((reason) =>
    reason.startsWith("BAD_"),
  ),
  "processor.md": [
    ...reasonsOf("processor.md", (row) => /^\| `[A-Z_`, ]+.*\| (?:failed|unchanged) \|/.test(row)),
  ],
  "tus.md": reasonsOf("tus.md", isStatusRow),
};

test.each(Object.entries(DOCUMENTED))("every reason of %s is translated", (page, reasons) => {
  // Fewer would mean that the tables were not found.
  expect(new Set(reasons).size, page).toBeGreaterThan(3);
  for (const reason of reasons) {
    expect(en.reasons, `${reason} of ${page}`).toHaveProperty(reason);
  }
});
