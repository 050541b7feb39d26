/** The focus in the grid: one photo is its tab stop, and arrow keys lead to the others. */
import { useEffect, useRef, type KeyboardEvent, type RefObject } from "react";
import { neighbour, type Direction, type Row } from "./layout";

const DIRECTIONS: Readonly<Record<string, Direction>> = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
  Home: "rowStart",
  End: "rowEnd",
};
const DIRECTIONS_WITH_CONTROL: Readonly<Record<string, Direction>> = { Home: "first", End: "last" };
/** Rows that Page Up and Page Down pass. */
const PAGE_ROWS = 3;

export interface GridFocus {
  readonly onKeyDown: (event: KeyboardEvent<HTMLElement>) => void;
  /** Move the focus to a photo, which may have to be drawn first. */
  readonly focus: (id: string) => void;
}

export interface GridFocusOptions {
  readonly grid: RefObject<HTMLElement | null>;
  readonly rows: readonly Row[];
  readonly activeId: string | null;
  readonly setActiveId: (id: string) => void;
  readonly reveal: (rowIndex: number) => void;
  readonly onToggle: (id: string) => void;
  readonly onRange: (id: string) => void;
}

export function useGridFocus(options: GridFocusOptions): GridFocus {
  const { grid, rows, activeId, setActiveId, reveal } = options;
  const wanted = useRef<string | null>(null);

  // After every drawing: the row of the photo may have come with it.
  useEffect(() => {
    if (wanted.current === null) return;
    const element = grid.current?.querySelector<HTMLElement>(`a[data-photo="${wanted.current}"]`);
    // Behind an open photo nothing takes the focus; it comes when that has closed.
    if (element?.closest("[inert]") !== null) return;
    wanted.current = null;
    element.focus({ preventScroll: true });
  });

  const focus = (id: string) => {
    const index = rows.findIndex(
      (row) => row.kind === "photos" && row.tiles.some((tile) => tile.id === id),
    );
    if (index < 0) return;
    wanted.current = id;
    setActiveId(id);
    reveal(index);
  };

  const onKeyDown = (event: KeyboardEvent<HTMLElement>) => {
    if (event.altKey || activeId === null || !(event.target instanceof HTMLElement)) return;
    if (event.target.dataset["photo"] === undefined) return;
    if (event.key === " ") {
      event.preventDefault();
      if (event.shiftKey) options.onRange(activeId);
      else options.onToggle(activeId);
      return;
    }
    const isReversed = getComputedStyle(event.currentTarget).direction === "rtl";
    const direction = (event.ctrlKey || event.metaKey ? DIRECTIONS_WITH_CONTROL : DIRECTIONS)[
      event.key
    ];
    const next =
      direction === undefined
        ? paged(rows, activeId, event.key)
        : neighbour(rows, activeId, isReversed ? mirrored(direction) : direction);
    if (next === null) return;
    event.preventDefault();
    if (event.shiftKey) options.onRange(next);
    focus(next);
  };

  return { onKeyDown, focus };
}

function paged(rows: readonly Row[], id: string, key: string): string | null {
  if (key !== "PageUp" && key !== "PageDown") return null;
  let at = id;
  for (let step = 0; step < PAGE_ROWS; step += 1)
    at = neighbour(rows, at, key === "PageUp" ? "up" : "down");
  return at;
}

function mirrored(direction: Direction): Direction {
  if (direction === "left") return "right";
  return direction === "right" ? "left" : direction;
}
