import { useTranslation } from "react-i18next";
import { Skeleton } from "@/components/common/Skeleton";
import { Plus, X } from "@/design/icons";
import { classes } from "@/lib/classes";
import { useFormat } from "@/lib/i18n/format";
import { useTags } from "./queries";
import styles from "./FilterBar.module.css";

export interface TagChipsProps {
  readonly selected: string | null;
  readonly onSelect: (tag: string | null) => void;
}

/** One chip for each tag, with the number of its photos; nothing where there are no tags. */
export function TagChips({ selected, onSelect }: TagChipsProps) {
  const { t } = useTranslation();
  const format = useFormat();
  const { tags, isPending, hasNextPage, isFetchingNextPage, fetchNextPage } = useTags();
  if (isPending) {
    return (
      <div className={styles["chips"]} aria-hidden>
        {["5rem", "7rem", "4.5rem", "6rem"].map((width) => (
          <Skeleton key={width} width={width} height="1.75rem" isRound />
        ))}
      </div>
    );
  }
  // A tag of a link that no photo has any more can still be taken off.
  const isUnknown = selected !== null && !tags.some((tag) => tag.label === selected);
  if (tags.length === 0 && !isUnknown) return null;
  const shown = isUnknown ? [{ label: selected, count: 0 }, ...tags] : tags;
  return (
    <ul className={styles["chips"]} aria-label={t("gallery.tags")}>
      {shown.map((tag) => {
        const isSelected = tag.label === selected;
        return (
          <li key={tag.label}>
            <button
              type="button"
              aria-pressed={isSelected}
              className={classes(styles["chip"], isSelected && styles["chipSelected"])}
              onClick={() => {
                onSelect(isSelected ? null : tag.label);
              }}
            >
              <bdi>{tag.label}</bdi>
              {isSelected ? (
                <X aria-hidden size={12} />
              ) : (
                <span className={styles["chipCount"]}>{format.number(tag.count)}</span>
              )}
            </button>
          </li>
        );
      })}
      {hasNextPage && (
        <li>
          <button
            type="button"
            className={styles["chip"]}
            aria-disabled={isFetchingNextPage}
            onClick={() => void fetchNextPage()}
          >
            <Plus aria-hidden size={12} />
            {t("gallery.moreTags")}
          </button>
        </li>
      )}
    </ul>
  );
}
