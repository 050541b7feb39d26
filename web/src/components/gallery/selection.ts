/** Which photos are selected: click, range and keyboard. A pure reducer. */

export interface Selection {
  readonly ids: ReadonlySet<string>;
  /** Where a range begins: the last photo that was selected or deselected by itself. */
  readonly anchor: string | null;
}

export const NOTHING_SELECTED: Selection = { ids: new Set(), anchor: null };

export type SelectionAction =
  | { readonly type: "toggle"; readonly id: string }
  /** Select all from the anchor to a photo, in the order that is shown. */
  | { readonly type: "range"; readonly id: string; readonly order: readonly string[] }
  /** Select the photos, or deselect them if all of them are selected. */
  | { readonly type: "toggleAll"; readonly ids: readonly string[] }
  | { readonly type: "clear" }
  /** Forget photos that are gone. */
  | { readonly type: "keep"; readonly order: readonly string[] };

/** Return the selection after an action; the same object if nothing changes. */
export function select(selection: Selection, action: SelectionAction): Selection {
  switch (action.type) {
    case "toggle": {
      const ids = new Set(selection.ids);
      if (!ids.delete(action.id)) ids.add(action.id);
      return { ids, anchor: action.id };
    }
    case "range": {
      const from = selection.anchor === null ? -1 : action.order.indexOf(selection.anchor);
      const to = action.order.indexOf(action.id);
      if (to < 0) return selection;
      if (from < 0) return { ids: new Set([...selection.ids, action.id]), anchor: action.id };
      const between = action.order.slice(Math.min(from, to), Math.max(from, to) + 1);
      return { ids: new Set([...selection.ids, ...between]), anchor: selection.anchor };
    }
    case "toggleAll": {
      const ids = new Set(selection.ids);
      if (action.ids.every((id) => ids.has(id))) for (const id of action.ids) ids.delete(id);
      else for (const id of action.ids) ids.add(id);
      return { ids, anchor: action.ids.at(-1) ?? selection.anchor };
    }
    case "clear":
      return selection.ids.size === 0 && selection.anchor === null ? selection : NOTHING_SELECTED;
    case "keep": {
      const there = new Set(action.order);
      const ids = new Set([...selection.ids].filter((id) => there.has(id)));
      if (ids.size === selection.ids.size) return selection;
      return { ids, anchor: ids.size === 0 ? null : selection.anchor };
    }
  }
}
