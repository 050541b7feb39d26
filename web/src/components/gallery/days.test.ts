import { describe, expect, it } from "vitest";
import { dayHeading, dayOf, localDay, regionalLocale } from "./days";

const WORDS = { today: "Today", yesterday: "Yesterday" };
const NOW = new Date(2026, 10, 30, 12);

describe("dayOf", () => {
  const photo = {
    takenAt: "2026-11-28T23:30:00Z",
    createdAt: new Date(2026, 10, 30, 0, 5).toISOString(),
  };

  it("is the day of the camera's clock in an order by it", () => {
    expect(dayOf(photo, "takenAt,asc")).toBe("2026-11-28");
  });

  it("is the day of the upload here in an order by that", () => {
    expect(dayOf(photo, "createdAt,desc")).toBe("2026-11-30");
  });

  it("is the day of the upload for a photo without a time", () => {
    expect(dayOf({ ...photo, takenAt: null }, "takenAt,desc")).toBe("2026-11-30");
  });

  it("is none in an order by name", () => {
    expect(dayOf(photo, "filename,asc")).toBeNull();
  });
});

describe("dayHeading", () => {
  it.each([
    ["2026-11-30", "Today"],
    ["2026-11-29", "Yesterday"],
    ["2026-11-28", "Saturday 28 November"],
    ["2019-05-03", "3 May 2019"],
  ])("names %s %s", (day, heading) => {
    expect(dayHeading(day, NOW, WORDS, "en-GB").replace(",", "")).toBe(heading);
  });

  it("knows the day before the first of a month", () => {
    expect(dayHeading("2026-02-28", new Date(2026, 2, 1), WORDS, "en")).toBe("Yesterday");
  });
});

it("writes local days with all their digits", () => {
  expect(localDay(new Date(2026, 0, 5))).toBe("2026-01-05");
});

it("prefers the region of the browser in the language that is shown", () => {
  expect(regionalLocale("en", ["de-DE", "en-GB"])).toBe("en-GB");
  expect(regionalLocale("de", ["en-GB"])).toBe("de");
});
