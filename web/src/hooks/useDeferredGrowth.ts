import { useDeferredValue } from "react";

/**
 * The list, where items that are added appear in a render that React interrupts for each frame:
 * a hundred new rows at once would hold one up. Other changes, such as a new order, show at once.
 */
export function useDeferredGrowth<Item>(list: readonly Item[]): readonly Item[] {
  const deferred = useDeferredValue(list);
  return list.length > deferred.length ? deferred : list;
}
