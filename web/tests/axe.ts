/** What axe finds in components. */
import axe from "axe-core";

/** axe asks jsdom for the style of each element, which takes seconds on a busy machine. */
export const AXE_MS = 30_000;

/** Findings as "rule: element". Contrast needs a layout; contrast.test.ts computes it. */
export async function axeFindings(element: Element): Promise<readonly string[]> {
  const { violations } = await axe.run(element, {
    rules: { "color-contrast": { enabled: false }, region: { enabled: false } },
  });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}
