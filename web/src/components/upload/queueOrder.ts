/** The order of the queue; pure. */

/**
 * Before which item one has to be put to take the place of another one: before it on the way up,
 * behind it on the way down. Null: at the end.
 */
export function beforeIdOf(order: readonly string[], id: string, overId: string): string | null {
  const from = order.indexOf(id);
  const to = order.indexOf(overId);
  return (from < to ? order[to + 1] : overId) ?? null;
}
