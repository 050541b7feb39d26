import { useId } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { Calendar } from "@/design/icons";
import { classes } from "@/lib/classes";
import { localDay, regionalLocale } from "./days";
import { Popover } from "./Popover";
import styles from "./FilterBar.module.css";

export interface Range {
  readonly from: string | null;
  readonly to: string | null;
}

export interface DateFilterProps extends Range {
  readonly onChange: (range: Range) => void;
}

const PRESETS = ["today", "week", "month", "year"] as const;

/** Days of a preset, up to today. */
export function presetRange(preset: (typeof PRESETS)[number], now: Date): Range {
  const [year, month, date] = [now.getFullYear(), now.getMonth(), now.getDate()];
  const from = {
    today: new Date(year, month, date),
    week: new Date(year, month, date - 6),
    month: new Date(year, month, 1),
    year: new Date(year, 0, 1),
  }[preset];
  return { from: localDay(from), to: localDay(now) };
}

/** Choose from which days photos are shown. */
export function DateFilter({ from, to, onChange }: DateFilterProps) {
  const { t, i18n } = useTranslation();
  const id = useId();
  const isSet = from !== null || to !== null;
  return (
    <Popover
      label={t("gallery.dates")}
      trigger={(props) => (
        <Button
          {...props}
          size="sm"
          icon={Calendar}
          className={classes(styles["filter"], isSet && styles["isSet"])}
        >
          {isSet
            ? rangeText(
                from,
                to,
                regionalLocale(i18n.language),
                t("gallery.since"),
                t("gallery.until"),
              )
            : t("gallery.dates")}
        </Button>
      )}
    >
      {(close) => (
        <div className={styles["dates"]}>
          <div className={styles["presets"]}>
            {PRESETS.map((preset) => (
              <Button
                key={preset}
                size="sm"
                onClick={() => {
                  onChange(presetRange(preset, new Date()));
                  close();
                }}
              >
                {t(`gallery.preset.${preset}`)}
              </Button>
            ))}
          </div>
          <div className={styles["range"]}>
            <DateField
              id={`${id}-from`}
              label={t("gallery.from")}
              value={from}
              onChange={(day) => {
                onChange({ from: day, to });
              }}
            />
            <DateField
              id={`${id}-to`}
              label={t("gallery.to")}
              value={to}
              onChange={(day) => {
                onChange({ from, to: day });
              }}
            />
          </div>
          <p className={styles["note"]}>{t("gallery.datesNote")}</p>
          {isSet && (
            <Button
              size="sm"
              variant="ghost"
              onClick={() => {
                onChange({ from: null, to: null });
                close();
              }}
            >
              {t("gallery.allDates")}
            </Button>
          )}
        </div>
      )}
    </Popover>
  );
}

interface DateFieldProps {
  readonly id: string;
  readonly label: string;
  readonly value: string | null;
  readonly onChange: (day: string | null) => void;
}

function DateField({ id, label, value, onChange }: DateFieldProps) {
  return (
    <div className={styles["dateField"]}>
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="date"
        min="1900-01-01"
        max="2099-12-31"
        value={value ?? ""}
        onChange={(event) => {
          // While a year is typed, days such as 0020-01-01 come by.
          const day = event.target.value;
          if (day === "") onChange(null);
          else if (event.target.validity.valid) onChange(day);
        }}
      />
    </div>
  );
}

function rangeText(
  from: string | null,
  to: string | null,
  locale: string,
  since: string,
  until: string,
): string {
  const format = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" });
  const dateOf = (day: string) => new Date(`${day}T00:00:00Z`);
  if (from !== null && to !== null) {
    const [first, last] = from < to ? [from, to] : [to, from];
    return format.formatRange(dateOf(first), dateOf(last));
  }
  if (from !== null) return `${since} ${format.format(dateOf(from))}`;
  return to === null ? "" : `${until} ${format.format(dateOf(to))}`;
}
