import { describe, expect, it } from "vitest";
import { NOTHING_SELECTED, select, type SelectionAction } from "./selection";

const ORDER = ["a", "b", "c", "d", "e"];
const run = (...actions: SelectionAction[]) =>
  [...actions.reduce(select, NOTHING_SELECTED).ids].toSorted((one, other) =>
    one.localeCompare(other),
  );

describe("select", () => {
  it("selects a range from the last toggled photo, in either direction", () => {
    expect(run({ type: "toggle", id: "d" }, { type: "range", id: "b", order: ORDER })).toEqual([
      "b",
      "c",
      "d",
    ]);
  });

  it("keeps the beginning of a range while its end moves", () => {
    const range = (id: string): SelectionAction => ({ type: "range", id, order: ORDER });
    expect(run({ type: "toggle", id: "b" }, range("c"), range("e"))).toEqual(["b", "c", "d", "e"]);
  });

  it("begins a range at its photo if there is no beginning", () => {
    expect(run({ type: "range", id: "c", order: ORDER })).toEqual(["c"]);
  });

  it("ignores a range to a photo that is not shown", () => {
    expect(run({ type: "toggle", id: "a" }, { type: "range", id: "x", order: ORDER })).toEqual([
      "a",
    ]);
  });

  it("toggles all: selects the rest, then none", () => {
    const all: SelectionAction = { type: "toggleAll", ids: ["a", "b"] };
    expect(run({ type: "toggle", id: "a" }, all)).toEqual(["a", "b"]);
    expect(run(all, all)).toEqual([]);
  });

  it("forgets photos that are gone, and their range", () => {
    const kept = [
      { type: "toggle", id: "a" } as const,
      { type: "keep", order: ["b", "c"] } as const,
      { type: "range", id: "c", order: ["b", "c"] } as const,
    ];
    expect(run(...kept)).toEqual(["c"]);
  });

  it("is the same object if nothing changes", () => {
    const one = select(NOTHING_SELECTED, { type: "toggle", id: "a" });
    expect(select(one, { type: "keep", order: ORDER })).toBe(one);
    expect(select(NOTHING_SELECTED, { type: "clear" })).toBe(NOTHING_SELECTED);
  });
});
