/** Tags as people type them. Pure. */
import type { TagCountView } from "@/lib/api/schema";

const MOST_SUGGESTED = 8;
/** Characters of a tag, of the gateway. */
const LONGEST = 64;

/** Return a tag without blanks around it and doubled ones within, in NFC; empty for none. */
export function normalizeTag(text: string): string {
  const plain = text.normalize("NFC").replace(/\s+/gu, " ").trim();
  return Array.from(plain).slice(0, LONGEST).join("");
}

/**
 * Return tags that go with what was typed: those that begin with it, then those that contain it,
 * and of each the ones of most photos first.
 */
export function suggestTags(
  tags: readonly TagCountView[],
  typed: string,
  taken: readonly string[],
): readonly TagCountView[] {
  const wanted = typed.toLocaleLowerCase();
  const without = new Set(taken);
  const rank = (tag: TagCountView) => (tag.label.toLocaleLowerCase().startsWith(wanted) ? 0 : 1);
  return tags
    .filter((tag) => !without.has(tag.label) && tag.label.toLocaleLowerCase().includes(wanted))
    .toSorted((one, other) => rank(one) - rank(other) || other.count - one.count)
    .slice(0, MOST_SUGGESTED);
}
