import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  filtersOf,
  isFiltering,
  NO_FILTERS,
  queryOf,
  searchOf,
  SORTS,
  STATUSES,
  type Filters,
} from "./filters";

const day = fc
  .date({ min: new Date("1900-01-01"), max: new Date("2099-12-31"), noInvalidDate: true })
  .map((date) => date.toISOString().slice(0, 10));
const text = fc.string({ maxLength: 40 });
const filters: fc.Arbitrary<Filters> = fc.record({
  tag: fc.option(text.map((tag) => tag.trim()).filter((tag) => tag !== "")),
  q: text,
  status: fc.option(fc.constantFrom(...STATUSES)),
  from: fc.option(day),
  to: fc.option(day),
  sort: fc.constantFrom(...SORTS),
});

describe("filters in the address", () => {
  it("are the same after a reload", () => {
    fc.assert(
      fc.property(filters, (wanted) => {
        expect(filtersOf(searchOf(wanted))).toEqual(wanted);
      }),
    );
  });

  it("are nothing by default", () => {
    expect(searchOf(NO_FILTERS)).toBe("");
    expect(filtersOf("")).toEqual(NO_FILTERS);
  });

  it("leave out what is none", () => {
    const search = "?status=GONE&sort=size&from=2026-02-31&to=yesterday&tag=%20&other=1";
    expect(filtersOf(search)).toEqual(NO_FILTERS);
  });

  it("cut a name to what the gateway takes, between characters", () => {
    const { q } = filtersOf(`?q=${encodeURIComponent("ä".repeat(200))}`);
    expect(q).toBe("ä".repeat(127));
  });

  it("do not count the order as a filter", () => {
    expect(isFiltering({ ...NO_FILTERS, sort: "filename,asc" })).toBe(false);
    expect(isFiltering({ ...NO_FILTERS, q: "a" })).toBe(true);
  });
});

describe("queryOf", () => {
  it("ends a range with the beginning of the next day", () => {
    const query = queryOf({ ...NO_FILTERS, from: "2026-11-28", to: "2026-11-28" });
    expect(query.takenFrom).toBe(new Date(2026, 10, 28).toISOString());
    expect(query.takenTo).toBe(new Date(2026, 10, 29).toISOString());
  });

  it("takes the ends of a range in either order", () => {
    const one = queryOf({ ...NO_FILTERS, from: "2026-11-01", to: "2026-11-05" });
    expect(queryOf({ ...NO_FILTERS, from: "2026-11-05", to: "2026-11-01" })).toEqual(one);
  });

  it("sends no blank name", () => {
    expect(queryOf({ ...NO_FILTERS, q: "  " })).toEqual({ sort: "createdAt,desc" });
  });
});
