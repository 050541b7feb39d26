import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gridOptions } from "./gridOptions";
import { layOut, neighbour, type Row, type Shape } from "./layout";

const shapes = fc
  .array(
    fc.record({
      ratio: fc.option(fc.double({ min: 0.05, max: 20, noNaN: true })),
      group: fc.constantFrom("a", "b", "c"),
    }),
    { maxLength: 60 },
  )
  .map((list): Shape[] =>
    list
      .toSorted((one, other) => one.group.localeCompare(other.group))
      .map((shape, index) => ({ ...shape, id: `p${index}` })),
  );
const width = fc.integer({ min: 200, max: 2000 });

function tilesOf(rows: readonly Row[]) {
  return rows.flatMap((row) => (row.kind === "photos" ? row.tiles : []));
}

describe("layOut", () => {
  it("shows each photo once, in order, within the width", () => {
    fc.assert(
      fc.property(shapes, width, (photos, pixels) => {
        const tiles = tilesOf(layOut(photos, gridOptions(pixels)));
        expect(tiles.map((tile) => tile.id)).toEqual(photos.map((photo) => photo.id));
        expect(tiles.map((tile) => tile.index)).toEqual(photos.map((_, index) => index));
        for (const tile of tiles) {
          expect(tile.width).toBeGreaterThan(0);
          expect(tile.left + tile.width).toBeLessThanOrEqual(pixels + 1);
        }
      }),
    );
  });

  it("leaves the gap between neighbours, and fills all rows but the last of a group", () => {
    fc.assert(
      fc.property(shapes, width, (photos, pixels) => {
        const options = gridOptions(pixels);
        const rows = layOut(photos, options);
        rows.forEach((row, index) => {
          if (row.kind === "heading") return;
          row.tiles.slice(1).forEach((tile, before) => {
            const end = (row.tiles[before]?.left ?? 0) + (row.tiles[before]?.width ?? 0);
            expect(Math.abs(tile.left - end - options.gap)).toBeLessThanOrEqual(1);
          });
          const isLast = rows[index + 1]?.kind !== "photos";
          const last = row.tiles.at(-1);
          if (!isLast && last)
            expect(Math.abs(last.left + last.width - pixels)).toBeLessThanOrEqual(1);
        });
      }),
    );
  });

  it("begins each group with its heading", () => {
    const rows = layOut(
      [
        { id: "1", ratio: 1.5, group: "a" },
        { id: "2", ratio: 1.5, group: "b" },
      ],
      gridOptions(1000),
    );
    expect(rows.map((row) => row.kind)).toEqual(["heading", "photos", "heading", "photos"]);
  });

  it("has no heading in an order without days, and does not enlarge a lone photo", () => {
    const options = gridOptions(1000);
    const rows = layOut([{ id: "1", ratio: 1.5, group: null }], options);
    expect(rows).toHaveLength(1);
    expect(rows[0]?.height).toBe(options.rowHeight);
  });
});

describe("neighbour", () => {
  it("goes to the right through all photos, and back", () => {
    fc.assert(
      fc.property(shapes, width, (photos, pixels) => {
        const rows = layOut(photos, gridOptions(pixels));
        photos.forEach((photo, index) => {
          const next = photos[index + 1]?.id ?? photo.id;
          expect(neighbour(rows, photo.id, "right")).toBe(next);
          if (next !== photo.id) expect(neighbour(rows, next, "left")).toBe(photo.id);
        });
      }),
    );
  });

  it("keeps to the column up and down", () => {
    const photos = Array.from({ length: 8 }, (_, index) => ({
      id: `p${index}`,
      ratio: 1,
      group: null,
    }));
    const rows = layOut(photos, { width: 400, rowHeight: 100, gap: 0, headingHeight: 0 });
    expect(neighbour(rows, "p1", "down")).toBe("p5");
    expect(neighbour(rows, "p5", "up")).toBe("p1");
    expect(neighbour(rows, "p5", "down")).toBe("p5");
    expect(neighbour(rows, "p6", "rowStart")).toBe("p4");
    expect(neighbour(rows, "p0", "last")).toBe("p7");
  });

  it("begins at the first photo if the one it starts from is gone", () => {
    const rows = layOut([{ id: "p0", ratio: 1, group: null }], gridOptions(500));
    expect(neighbour(rows, "gone", "down")).toBe("p0");
  });
});
