/** Rows of the grid: photos keep their shape and fill the width. Pure. */

/** A photo as the layout sees it: width over height. */
export interface Shape {
  readonly id: string;
  /** Null while the size of the photo is unknown. */
  readonly ratio: number | null;
  /** Heading of the group to which it belongs; null for no headings. */
  readonly group: string | null;
}

export interface Tile {
  readonly id: string;
  /** Position among all photos. */
  readonly index: number;
  /** Pixels from the left of the row. */
  readonly left: number;
  readonly width: number;
}

export type Row =
  | {
      readonly kind: "heading";
      readonly group: string;
      readonly height: number;
      readonly ids: readonly string[];
    }
  | { readonly kind: "photos"; readonly height: number; readonly tiles: readonly Tile[] };

export interface LayoutOptions {
  /** Pixels. */
  readonly width: number;
  /** Pixels that a row should be high; it is up to 1.35 times as high to fill the width. */
  readonly rowHeight: number;
  readonly gap: number;
  readonly headingHeight: number;
}

/** Panoramas and strips are cropped to these: a row of one of them would be a line or a tower. */
const RATIO = { least: 0.56, most: 2.4 } as const;
const UNKNOWN_RATIO = 1;
const MOST_STRETCH = 1.35;

/** Return the rows, headings included, in the order of the photos. */
export function layOut(shapes: readonly Shape[], options: LayoutOptions): readonly Row[] {
  const rows: Row[] = [];
  let start = 0;
  while (start < shapes.length) {
    const group = shapes[start]?.group ?? null;
    let end = start;
    while (end < shapes.length && (shapes[end]?.group ?? null) === group) end += 1;
    if (group !== null) {
      const ids = shapes.slice(start, end).map((shape) => shape.id);
      rows.push({ kind: "heading", group, height: options.headingHeight, ids });
    }
    for (const row of justify(shapes, start, end, options)) rows.push(row);
    start = end;
  }
  return rows;
}

function justify(
  shapes: readonly Shape[],
  start: number,
  end: number,
  options: LayoutOptions,
): Row[] {
  const rows: Row[] = [];
  let first = start;
  let sum = 0;
  for (let index = start; index < end; index += 1) {
    const shape = shapes[index];
    if (shape === undefined) break;
    sum += clipped(shape.ratio);
    const room = roomFor(index - first + 1, options);
    if (sum * options.rowHeight < room) continue;
    // Without the last photo the row may meet the height better; it begins the next one then.
    const shorter =
      index > first ? roomFor(index - first, options) / (sum - clipped(shape.ratio)) : Infinity;
    const isBetterWithout =
      shorter - options.rowHeight < options.rowHeight - room / sum &&
      shorter <= options.rowHeight * MOST_STRETCH;
    if (isBetterWithout) {
      rows.push(rowOf(shapes, first, index, shorter, options.gap));
      [first, sum] = [index, clipped(shape.ratio)];
      // One photo alone may fill a narrow row.
      if (sum * options.rowHeight < roomFor(1, options)) continue;
    }
    rows.push(
      rowOf(shapes, first, index + 1, roomFor(index + 1 - first, options) / sum, options.gap),
    );
    [first, sum] = [index + 1, 0];
  }
  if (first < end) {
    const filling = roomFor(end - first, options) / sum;
    const height = filling <= options.rowHeight * 1.15 ? filling : options.rowHeight;
    rows.push(rowOf(shapes, first, end, height, options.gap));
  }
  return rows;
}

function roomFor(count: number, options: LayoutOptions): number {
  return Math.max(1, options.width - options.gap * (count - 1));
}

function rowOf(
  shapes: readonly Shape[],
  first: number,
  end: number,
  height: number,
  gap: number,
): Row {
  const tiles: Tile[] = [];
  let left = 0;
  for (let index = first; index < end; index += 1) {
    const shape = shapes[index];
    if (shape === undefined) break;
    // Both edges are rounded rather than the width, so that rounding never adds up to a ragged end.
    const right = left + clipped(shape.ratio) * height;
    tiles.push({
      id: shape.id,
      index,
      left: Math.round(left),
      width: Math.round(right) - Math.round(left),
    });
    left = right + gap;
  }
  return { kind: "photos", height: Math.round(height), tiles };
}

function clipped(ratio: number | null): number {
  if (ratio === null || !Number.isFinite(ratio) || ratio <= 0) return UNKNOWN_RATIO;
  return Math.min(RATIO.most, Math.max(RATIO.least, ratio));
}

export type Direction = "left" | "right" | "up" | "down" | "rowStart" | "rowEnd" | "first" | "last";

/**
 * Return the photo to which a key leads from another, which is the same one at an edge.
 *
 * Up and down keep to the column: the photo whose middle is nearest.
 */
export function neighbour(rows: readonly Row[], id: string, direction: Direction): string {
  const lines = rows.flatMap((row) => (row.kind === "photos" ? [row.tiles] : []));
  const line = lines.findIndex((tiles) => tiles.some((tile) => tile.id === id));
  const tiles = lines[line];
  if (tiles === undefined) return lines[0]?.[0]?.id ?? id;
  const column = tiles.findIndex((tile) => tile.id === id);
  const here = tiles[column];
  switch (direction) {
    case "left":
      return tiles[column - 1]?.id ?? lines[line - 1]?.at(-1)?.id ?? id;
    case "right":
      return tiles[column + 1]?.id ?? lines[line + 1]?.[0]?.id ?? id;
    case "rowStart":
      return tiles[0]?.id ?? id;
    case "rowEnd":
      return tiles.at(-1)?.id ?? id;
    case "first":
      return lines[0]?.[0]?.id ?? id;
    case "last":
      return lines.at(-1)?.at(-1)?.id ?? id;
    default: {
      const next = lines[line + (direction === "up" ? -1 : 1)];
      if (next === undefined || here === undefined) return id;
      const middle = here.left + here.width / 2;
      const nearest = next.reduce((best, tile) =>
        Math.abs(tile.left + tile.width / 2 - middle) <
        Math.abs(best.left + best.width / 2 - middle)
          ? tile
          : best,
      );
      return nearest.id;
    }
  }
}
