/**
 * What a camera wrote into a photo, in human terms. Pure: values come from other people's files,
 * so each may be missing, of another type, or absurd; such a value gives null and no line.
 */

/** One line of the details: `key` names its label under `photo.exif.*`. */
export interface ExifLine {
  readonly key:
    | "camera"
    | "lens"
    | "exposure"
    | "aperture"
    | "iso"
    | "focalLength"
    | "bias"
    | "flash"
    | "software";
  readonly text: string;
}

/** A moment as the camera wrote it. `zone` is null where the camera did not know its zone. */
export interface TakenAt {
  /** Year to second as written, without conversion to the zone of this browser. */
  readonly local: Date;
  /** Such as `+01:00`; `Z` becomes `UTC`. */
  readonly zone: string | null;
}

export type ExifFields = Readonly<Record<string, unknown>>;

/** Words that lines need, translated. */
export interface ExifWords {
  readonly flashFired: string;
  readonly flashNotFired: string;
  /** Such as `35 mm equivalent`, for a length in millimetres. */
  equivalent(millimetres: string): string;
}

const LONGEST_TEXT = 128;
/** Bulb exposures of a day and shutters of 1/1,000,000 s are beyond any camera that writes EXIF. */
const EXPOSURE_SECONDS = { least: 1e-6, most: 86_400 } as const;
const F_NUMBER = { least: 0.5, most: 256 } as const;
const ISO = { least: 1, most: 10_000_000 } as const;
const FOCAL_MM = { least: 0.5, most: 10_000 } as const;
const BIAS_EV = { least: -20, most: 20 } as const;

interface Range {
  readonly least: number;
  readonly most: number;
}

/** Return the number if it is one that a camera can mean, else null. */
function within(value: unknown, range: Range): number | null {
  return typeof value === "number" && value >= range.least && value <= range.most ? value : null;
}

function words(value: unknown): string | null {
  if (typeof value !== "string") return null;
  const text = value.replace(/\s+/gu, " ").trim().slice(0, LONGEST_TEXT);
  return text === "" ? null : text;
}

/** Return a number with at most `digits` decimals and no trailing zeros: `1/1000`, as on a dial. */
function decimal(value: number, digits: number, locale: string): string {
  return new Intl.NumberFormat(locale, {
    maximumFractionDigits: digits,
    useGrouping: false,
  }).format(value);
}

/**
 * Return an exposure as photographers write it: `1/125 s`, `0.4 s`, `2.5 s`, `30 s`.
 *
 * Below 0.3 s it is a fraction with numerator 1, as on a camera's dial; longer ones are decimal,
 * unless 1 / n meets the time exactly (1/2 s, 1/3 s).
 *
 * @param seconds - of the shutter; anything but a sensible number gives null.
 */
export function formatExposure(seconds: unknown, locale = "en"): string | null {
  const value = within(seconds, EXPOSURE_SECONDS);
  if (value === null) return null;
  const parts = Math.round(1 / value);
  const isExact = parts >= 2 && Math.abs(value * parts - 1) < 0.005;
  if (value < 0.3 || isExact) return `1/${decimal(parts, 0, locale)} s`;
  return `${decimal(value, value < 10 ? 1 : 0, locale)} s`;
}

/** Return an aperture as `f/2.8`, or null. */
export function formatAperture(fNumber: unknown, locale = "en"): string | null {
  const value = within(fNumber, F_NUMBER);
  return value === null ? null : `f/${decimal(value, value < 10 ? 1 : 0, locale)}`;
}

/** Return a sensitivity as `ISO 3200`, or null. */
export function formatIso(iso: unknown, locale = "en"): string | null {
  const value = within(iso, ISO);
  return value === null ? null : `ISO ${decimal(value, 0, locale)}`;
}

/** Return a focal length in millimetres, with that of 35 mm film where it differs. */
export function formatFocalLength(
  millimetres: unknown,
  of35mm: unknown,
  text: Pick<ExifWords, "equivalent">,
  locale = "en",
): string | null {
  const real = within(millimetres, FOCAL_MM);
  const equivalent = within(of35mm, FOCAL_MM);
  const written = equivalent === null ? null : text.equivalent(decimal(equivalent, 0, locale));
  if (real === null) return written;
  const own = `${decimal(real, real < 20 ? 1 : 0, locale)} mm`;
  const differs = equivalent !== null && Math.abs(equivalent - real) >= 0.5;
  return differs && written !== null ? `${own} (${written})` : own;
}

/** Return a correction of the exposure as `+0.7 EV`; null for none, which is no news. */
export function formatBias(ev: unknown, locale = "en"): string | null {
  const value = within(ev, BIAS_EV);
  if (value === null || Math.abs(value) < 0.05) return null;
  const written = new Intl.NumberFormat(locale, {
    maximumFractionDigits: 1,
    signDisplay: "always",
  });
  return `${written.format(value)} EV`;
}

/**
 * Return make and model without the make twice (`Canon Canon EOS R6`), or null.
 *
 * Makes in capitals with a legal form, such as `NIKON CORPORATION`, are cut to the name.
 */
export function formatCamera(make: unknown, model: unknown): string | null {
  const brand = words(make)?.replace(
    /[ ,]+(corporation|corp\.?|co\.?,? ?ltd\.?|inc\.?|imaging)$/iu,
    "",
  );
  const name = words(model);
  if (brand === undefined || brand === "") return name;
  if (name === null) return brand;
  return name.toLowerCase().startsWith(brand.toLowerCase()) ? name : `${brand} ${name}`;
}

/**
 * Return when the camera took the photo, on its own clock, or null.
 *
 * @param written - ISO 8601 with or without a zone, as the gateway has it in `exif.taken_at`.
 */
export function parseTakenAt(written: unknown): TakenAt | null {
  if (typeof written !== "string") return null;
  const found = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d+)?(Z|[+-]\d{2}:?\d{2})?$/u.exec(
    written,
  );
  if (found?.[1] === undefined) return null;
  // As UTC, so that it can be written in UTC again: the camera's clock is no moment on ours.
  const local = new Date(`${found[1]}Z`);
  if (Number.isNaN(local.getTime())) return null;
  const zone = found[2];
  return { local, zone: zone === undefined ? null : zone === "Z" ? "UTC" : zone };
}

/** Return the moment as `Saturday, 28 November 2026 at 16:12 (+01:00)`. */
export function formatTakenAt(taken: TakenAt, locale = "en"): string {
  const format = new Intl.DateTimeFormat(locale, {
    dateStyle: "full",
    timeStyle: "short",
    timeZone: "UTC",
  });
  const written = format.format(taken.local);
  if (taken.zone === null) return written;
  return `${written} (${taken.zone === "UTC" ? taken.zone : `UTC${taken.zone}`})`;
}

/** Return the lines that the fields give, in the order in which photographers read them. */
export function exifLines(
  fields: ExifFields | null,
  text: ExifWords,
  locale = "en",
): readonly ExifLine[] {
  if (fields === null) return [];
  const flash = fields["flash_fired"];
  const lens = formatCamera(fields["lens_make"], fields["lens_model"]);
  const found: readonly (readonly [ExifLine["key"], string | null])[] = [
    ["camera", formatCamera(fields["camera_make"], fields["camera_model"])],
    ["lens", lens],
    ["exposure", formatExposure(fields["exposure_seconds"], locale)],
    ["aperture", formatAperture(fields["f_number"], locale)],
    ["iso", formatIso(fields["iso"], locale)],
    [
      "focalLength",
      formatFocalLength(fields["focal_length_mm"], fields["focal_length_35mm"], text, locale),
    ],
    ["bias", formatBias(fields["exposure_bias_ev"], locale)],
    ["flash", typeof flash === "boolean" ? (flash ? text.flashFired : text.flashNotFired) : null],
    ["software", words(fields["software"])],
  ];
  return found.flatMap(([key, line]) => (line === null ? [] : [{ key, text: line }]));
}

/** Where a photo was taken, in degrees and metres. */
export interface Place {
  readonly latitude: number;
  readonly longitude: number;
  readonly altitudeMetres: number | null;
}

/** Return the place of a photo, or null for one that has none or that is not on Earth. */
export function placeOf(location: ExifFields | null): Place | null {
  const latitude = within(location?.["latitude"], { least: -90, most: 90 });
  const longitude = within(location?.["longitude"], { least: -180, most: 180 });
  if (latitude === null || longitude === null) return null;
  const altitudeMetres = within(location?.["altitude_metres"], { least: -12_000, most: 100_000 });
  return { latitude, longitude, altitudeMetres };
}

/** Return a place as `46.41031° N, 11.83750° E`: five decimals are a metre. */
export function formatPlace(place: Place, locale = "en"): string {
  const format = new Intl.NumberFormat(locale, {
    minimumFractionDigits: 5,
    maximumFractionDigits: 5,
  });
  const latitude = `${format.format(Math.abs(place.latitude))}° ${place.latitude < 0 ? "S" : "N"}`;
  const longitude = `${format.format(Math.abs(place.longitude))}° ${place.longitude < 0 ? "W" : "E"}`;
  return `${latitude}, ${longitude}`;
}

/** Return the page of a map at the place; opened only by a person who asks for it. */
export function mapUrl(place: Place): string {
  const [latitude, longitude] = [place.latitude.toFixed(5), place.longitude.toFixed(5)];
  return `https://www.openstreetmap.org/?mlat=${latitude}&mlon=${longitude}#map=15/${latitude}/${longitude}`;
}
