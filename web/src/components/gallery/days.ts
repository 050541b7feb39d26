/** The days under which photos stand. Pure. */
import type { PhotoSummaryView } from "@/lib/api/schema";
import type { Sort } from "./filters";

type Dated = Pick<PhotoSummaryView, "takenAt" | "createdAt">;

/**
 * Return the day of a photo as `YYYY-MM-DD`, or null in an order that is not one of time.
 *
 * The gateway counts a camera's clock without a zone as UTC and sorts by it, so days of `takenAt`
 * are those of UTC. Days of `createdAt` are those of this browser, in which people remember them.
 */
export function dayOf(photo: Dated, sort: Sort): string | null {
  if (sort.startsWith("filename")) return null;
  const isTaken = sort.startsWith("takenAt") && photo.takenAt !== null;
  if (isTaken) return (photo.takenAt ?? "").slice(0, 10);
  const created = new Date(photo.createdAt);
  return Number.isNaN(created.getTime()) ? null : localDay(created);
}

/** Return the day in the zone of this browser as `YYYY-MM-DD`. */
export function localDay(moment: Date): string {
  const [year, month, date] = [moment.getFullYear(), moment.getMonth() + 1, moment.getDate()];
  return [String(year).padStart(4, "0"), pad(month), pad(date)].join("-");
}

/** Names of near days; all others are dates. */
export interface DayWords {
  readonly today: string;
  readonly yesterday: string;
}

/** Return a heading such as `Today`, `Saturday, 28 November` of this year, `3 May 2019`. */
export function dayHeading(day: string, now: Date, words: DayWords, locale: string): string {
  if (day === localDay(now)) return words.today;
  const before = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  if (day === localDay(before)) return words.yesterday;
  const date = new Date(`${day}T00:00:00Z`);
  if (Number.isNaN(date.getTime())) return day;
  const isThisYear = day.startsWith(String(now.getFullYear()));
  return new Intl.DateTimeFormat(locale, {
    timeZone: "UTC",
    day: "numeric",
    month: "long",
    ...(isThisYear ? { weekday: "long" } : { year: "numeric" }),
  }).format(date);
}

/**
 * Return the tag of a language as this browser's person writes it: `en-GB` rather than `en`, whose
 * dates are American.
 */
export function regionalLocale(
  language: string,
  wanted: readonly string[] = navigator.languages,
): string {
  return wanted.find((tag) => tag.split("-")[0] === language.split("-")[0]) ?? language;
}

function pad(number: number): string {
  return String(number).padStart(2, "0");
}
