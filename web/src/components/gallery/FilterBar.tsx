import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { Menu } from "@/components/common/Menu";
import { ChevronDown, ListChecks } from "@/design/icons";
import { classes } from "@/lib/classes";
import { DateFilter } from "./DateFilter";
import { isFiltering, NO_FILTERS, SORTS, STATUSES, type Filters } from "./filters";
import { SearchField } from "./SearchField";
import { TagChips } from "./TagChips";
import styles from "./FilterBar.module.css";

export interface FilterBarProps {
  readonly filters: Filters;
  readonly onChange: (filters: Partial<Filters>) => void;
  readonly isSelecting: boolean;
  readonly onSelecting: () => void;
}

/** What is shown, and in which order. */
export function FilterBar({ filters, onChange, isSelecting, onSelecting }: FilterBarProps) {
  const { t } = useTranslation();
  return (
    <div className={styles["bar"]}>
      <div className={styles["controls"]}>
        <SearchField
          value={filters.q}
          onChange={(q) => {
            onChange({ q });
          }}
        />
        <div className={styles["menus"]}>
          <DateFilter from={filters.from} to={filters.to} onChange={onChange} />
          <Menu
            align="start"
            items={[null, ...STATUSES].map((status) => ({
              id: status ?? "all",
              label: status === null ? t("gallery.allStatuses") : t(`gallery.status.${status}`),
              isChecked: status === filters.status,
              onSelect: () => {
                onChange({ status });
              },
            }))}
            trigger={(props) => (
              <Button
                {...props}
                size="sm"
                className={classes(styles["filter"], filters.status !== null && styles["isSet"])}
              >
                {filters.status === null
                  ? t("gallery.statusLabel")
                  : t(`gallery.status.${filters.status}`)}
                <ChevronDown aria-hidden size={14} />
              </Button>
            )}
          />
          <Menu
            align="start"
            items={SORTS.map((sort) => ({
              id: sort,
              label: t(`gallery.sort.${sort}`),
              isChecked: sort === filters.sort,
              onSelect: () => {
                onChange({ sort });
              },
            }))}
            trigger={(props) => (
              <Button {...props} size="sm" className={styles["filter"]}>
                <span className="visually-hidden">{t("gallery.sortLabel")}</span>{" "}
                {t(`gallery.sort.${filters.sort}`)}
                <ChevronDown aria-hidden size={14} />
              </Button>
            )}
          />
          <Button
            size="sm"
            icon={ListChecks}
            className={classes(
              styles["filter"],
              styles["selectButton"],
              isSelecting && styles["isSet"],
            )}
            aria-label={t("gallery.select")}
            aria-pressed={isSelecting}
            onClick={onSelecting}
          >
            {t("gallery.select")}
          </Button>
        </div>
      </div>
      <div className={styles["tagLine"]}>
        <TagChips
          selected={filters.tag}
          onSelect={(tag) => {
            onChange({ tag });
          }}
        />
        {isFiltering(filters) && (
          <Button
            size="sm"
            variant="ghost"
            className={styles["clear"]}
            onClick={() => {
              onChange({ ...NO_FILTERS, sort: filters.sort });
            }}
          >
            {t("gallery.clearFilters")}
          </Button>
        )}
      </div>
    </div>
  );
}
