/** Numbers, sizes, times and dates as people of a language write them. */
import { useTranslation } from "react-i18next";

/** Those of the `sluice` command. */
const SIZE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;
const MOST_IN_BADGE = 999;
const NO_BREAK_SPACE = "\u00a0";

export interface Format {
  number(value: number): string;
  /** Of a count in a narrow place: three digits at most, "999+" beyond. */
  badge(value: number): string;
  /** Of a share from 0 to 1, rounded down: 100 % is shown when all is done. */
  percent(share: number): string;
  /** Of bytes, with three digits, as the `sluice` command prints them: "1.5 MiB". */
  bytes(bytes: number): string;
  /** Of bytes a second. */
  speed(bytesPerSecond: number): string;
  /** Of seconds, as coarse as a guess is: "2 min", "1 hr 5 min". */
  duration(seconds: number): string;
  /** Of milliseconds since 1970, or an ISO time. */
  date(time: number | string): string;
  dateTime(time: number | string): string;
}

const made = new Map<string, Format>();

export function createFormat(language: string): Format {
  const known = made.get(language);
  if (known) return known;
  const plain = new Intl.NumberFormat(language);
  const whole = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
  const unit = (name: "second" | "minute" | "hour" | "day") =>
    new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "short" });
  const [second, minute, hour, day] = [unit("second"), unit("minute"), unit("hour"), unit("day")];
  const date = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
  const dateTime = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });

  const bytes = (value: number): string => {
    let size = value;
    let step = 0;
    // Rounded to three digits 999.5 is 1,000: it belongs to the next unit.
    while (size >= (step === 0 ? 1000 : 999.5) && step < SIZE_UNITS.length - 1) {
      size /= 1024;
      step += 1;
    }
    return `${short.format(size)}${NO_BREAK_SPACE}${SIZE_UNITS[step] ?? ""}`;
  };
  const duration = (seconds: number): string => {
    if (seconds < 60) return second.format(Math.max(1, Math.ceil(seconds)));
    const minutes = Math.ceil(seconds / 60);
    if (minutes < 60) return minute.format(minutes);
    if (minutes >= 48 * 60) return day.format(Math.ceil(minutes / 60 / 24));
    const rest = minutes % 60;
    const hours = hour.format(Math.floor(minutes / 60));
    return rest === 0 ? hours : `${hours} ${minute.format(rest)}`;
  };
  const format: Format = {
    number: (value) => plain.format(value),
    badge: (value) =>
      value > MOST_IN_BADGE ? `${plain.format(MOST_IN_BADGE)}+` : plain.format(value),
    percent: (share) =>
      whole.format(Math.floor(Math.min(1, Math.max(0, share)) * 100 + 1e-9) / 100),
    bytes,
    speed: (bytesPerSecond) => `${bytes(bytesPerSecond)}/s`,
    duration,
    date: (time) => date.format(new Date(time)),
    dateTime: (time) => dateTime.format(new Date(time)),
  };
  made.set(language, format);
  return format;
}

/** The format of the language that is shown. */
export function useFormat(): Format {
  const { i18n } = useTranslation();
  return createFormat(i18n.language);
}
