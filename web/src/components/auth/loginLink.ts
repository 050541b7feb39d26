/** The one-time link that the server prints: `…/#login=slk_…`. */
import { linkOf } from "@/lib/api/auth";

/**
 * Return the token of a log-in link in the address, or null, and remove it from the address and
 * from the history at once: neither a bookmark, nor a screenshot, nor the next person keeps it.
 *
 * To be called once, before anything else reads the address.
 */
export function takeLoginLink(page: Window = window): string | null {
  const { hash, pathname, search } = page.location;
  const link = linkOf(hash);
  if (link !== null) page.history.replaceState(page.history.state, "", pathname + search);
  return link;
}
