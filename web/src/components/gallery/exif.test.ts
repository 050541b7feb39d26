import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  exifLines,
  formatAperture,
  formatBias,
  formatCamera,
  formatExposure,
  formatFocalLength,
  formatIso,
  formatPlace,
  formatTakenAt,
  mapUrl,
  parseTakenAt,
  placeOf,
} from "./exif";

const WORDS = {
  flashFired: "fired",
  flashNotFired: "did not fire",
  equivalent: (value: string) => `${value} mm equivalent`,
};

const ABSURD: readonly unknown[] = [
  0,
  -1,
  NaN,
  Infinity,
  -Infinity,
  1e300,
  1e-300,
  null,
  undefined,
];
const OTHER_TYPES: readonly unknown[] = ["1/125", "", {}, [], true, [1, 125]];

describe("formatExposure", () => {
  it.each([
    [0.008, "1/125 s"],
    [0.001, "1/1000 s"],
    [0.000125, "1/8000 s"],
    [1 / 60, "1/60 s"],
    [0.25, "1/4 s"],
    [1 / 3, "1/3 s"],
    [0.5, "1/2 s"],
    [0.4, "0.4 s"],
    [0.769230769, "0.8 s"],
    [1, "1 s"],
    [1.3, "1.3 s"],
    [2.5, "2.5 s"],
    [30, "30 s"],
    [1800, "1800 s"],
  ])("writes %d s as %s", (seconds, text) => {
    expect(formatExposure(seconds)).toBe(text);
  });

  it.each([...ABSURD, ...OTHER_TYPES])("gives nothing for %j", (value) => {
    expect(formatExposure(value)).toBeNull();
  });

  it("writes the decimal sign of the language", () => {
    expect(formatExposure(2.5, "de")).toBe("2,5 s");
  });

  it("says a time that differs by less than 15 % from the real one", () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-5, max: 10_000, noNaN: true }), (seconds) => {
        const text = formatExposure(seconds);
        const found = /^(?:1\/(\d+)|(\d+(?:\.\d+)?)) s$/u.exec(text ?? "");
        const said = found?.[1] === undefined ? Number(found?.[2]) : 1 / Number(found[1]);
        expect(Math.abs(said / seconds - 1)).toBeLessThan(0.15);
      }),
    );
  });
});

describe("numbers of a camera", () => {
  it.each([
    [2.8, "f/2.8"],
    [1.78, "f/1.8"],
    [8, "f/8"],
    [11.3, "f/11"],
  ])("writes the aperture %d as %s", (value, text) => {
    expect(formatAperture(value)).toBe(text);
  });

  it("writes the sensitivity without a separator", () => {
    expect(formatIso(3200, "de")).toBe("ISO 3200");
  });

  it.each([
    [6.765, 24, "6.8 mm (24 mm equivalent)"],
    [50, 50, "50 mm"],
    [50, undefined, "50 mm"],
    [undefined, 24, "24 mm equivalent"],
    [0, 0, null],
  ])("writes the focal length %s of %s mm film as %s", (real, equivalent, text) => {
    expect(formatFocalLength(real, equivalent, WORDS)).toBe(text);
  });

  it.each([
    [0.666666667, "+0.7 EV"],
    [-1 / 3, "-0.3 EV"],
    [0, null],
    [-0, null],
  ])("writes the correction %d as %s", (value, text) => {
    expect(formatBias(value)).toBe(text);
  });

  it.each([...ABSURD.slice(1), ...OTHER_TYPES])("gives nothing for %j", (value) => {
    if (value !== -1) expect(formatBias(value)).toBeNull();
    expect(formatAperture(value)).toBeNull();
    expect(formatIso(value)).toBeNull();
    expect(formatFocalLength(value, value, WORDS)).toBeNull();
  });
});

describe("formatCamera", () => {
  it.each([
    ["Canon", "Canon EOS R6", "Canon EOS R6"],
    ["FUJIFILM", "X-T5", "FUJIFILM X-T5"],
    ["NIKON CORPORATION", "NIKON Z 6_2", "NIKON Z 6_2"],
    ["OLYMPUS IMAGING CORP.", "E-M1", "OLYMPUS IMAGING E-M1"],
    ["  SONY  ", " ILCE-7M4\n", "SONY ILCE-7M4"],
    [undefined, "Pixel 9", "Pixel 9"],
    ["Apple", "", "Apple"],
    ["", "", null],
    [7, {}, null],
  ])("joins %j and %j to %j", (make, model, text) => {
    expect(formatCamera(make, model)).toBe(text);
  });
});

describe("taken at", () => {
  it("keeps the clock of the camera and names its zone", () => {
    const taken = parseTakenAt("2026-11-28T16:12:04.25+01:00");
    expect(taken?.zone).toBe("+01:00");
    const text = taken && formatTakenAt(taken, "en-GB");
    expect(text).toMatch(/^Saturday,? 28 November 2026 at 16:12 \(UTC\+01:00\)$/u);
  });

  it("names no zone that the camera did not know", () => {
    const taken = parseTakenAt("2026-11-28T16:12:04");
    expect(taken?.zone).toBeNull();
    expect(taken && formatTakenAt(taken, "en-GB")).toMatch(/16:12$/u);
  });

  it("writes Z as UTC", () => {
    expect(parseTakenAt("2026-11-28T16:12:04Z")?.zone).toBe("UTC");
  });

  it.each(["", "2026-11-28", "2026-13-45T00:00:00", "0000:00:00 00:00:00", 5, null])(
    "gives nothing for %j",
    (value) => {
      expect(parseTakenAt(value)).toBeNull();
    },
  );
});

describe("exifLines", () => {
  it("has no line for what is missing or absurd", () => {
    expect(exifLines(null, WORDS)).toEqual([]);
    expect(exifLines({}, WORDS)).toEqual([]);
    expect(exifLines({ exposure_seconds: 0, iso: -5, f_number: "x" }, WORDS)).toEqual([]);
  });

  it("has the lines in the order in which they are read", () => {
    const fields = {
      flash_fired: false,
      iso: 200,
      camera_make: "FUJIFILM",
      camera_model: "X-T5",
      exposure_seconds: 0.008,
    };
    expect(exifLines(fields, WORDS)).toEqual([
      { key: "camera", text: "FUJIFILM X-T5" },
      { key: "exposure", text: "1/125 s" },
      { key: "iso", text: "ISO 200" },
      { key: "flash", text: "did not fire" },
    ]);
  });

  it("takes any fields without failing, and writes no empty or endless line", () => {
    const field = fc.constantFrom(
      "exposure_seconds",
      "f_number",
      "iso",
      "lens_model",
      "flash_fired",
      "software",
    );
    fc.assert(
      fc.property(fc.dictionary(field, fc.anything()), (fields) => {
        for (const line of exifLines(fields, WORDS)) {
          expect(line.text).not.toBe("");
          expect(line.text.length).toBeLessThan(300);
        }
      }),
    );
  });
});

describe("place", () => {
  it("is written with its hemispheres", () => {
    const place = placeOf({ latitude: -46.41031, longitude: -11.8375, altitude_metres: 2314 });
    expect(place?.altitudeMetres).toBe(2314);
    expect(place && formatPlace(place)).toBe("46.41031° S, 11.83750° W");
    expect(place && mapUrl(place)).toBe(
      "https://www.openstreetmap.org/?mlat=-46.41031&mlon=-11.83750#map=15/-46.41031/-11.83750",
    );
  });

  it.each([
    null,
    {},
    { latitude: 91, longitude: 0 },
    { latitude: 1, longitude: 181 },
    { latitude: NaN, longitude: 1 },
    { latitude: "46", longitude: "11" },
  ])("is none for %j", (location) => {
    expect(placeOf(location)).toBeNull();
  });
});
