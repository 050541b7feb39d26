import {
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  type Ref,
  useImperativeHandle,
} from "react";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useTranslation } from "react-i18next";
import { Check } from "@/design/icons";
import { classes } from "@/lib/classes";
import type { PhotoSummaryView } from "@/lib/api/schema";
import { dayHeading, dayOf, regionalLocale } from "./days";
import type { Sort } from "./filters";
import { gridOptions } from "./gridOptions";
import { layOut, type Row } from "./layout";
import { PhotoTile } from "./PhotoTile";
import type { Selection, SelectionAction } from "./selection";
import { useElementSize } from "./useElementSize";
import { useGridFocus } from "./useGridFocus";
import styles from "./PhotoGrid.module.css";

/** Rows beyond the window that are drawn, and from which on the next page is fetched. */
const OVERSCAN_ROWS = 4;
const ROWS_BEFORE_END = 6;
/** Of the header and the bar of a selection, in pixels: a row that is scrolled to stays below. */
const COVERED_TOP = 132;
const COVERED_BOTTOM = 80;

export interface GridHandle {
  /** Move the focus to a photo, and scroll to it. */
  focus(id: string): void;
}

export interface PhotoGridProps {
  readonly photos: readonly PhotoSummaryView[];
  readonly sort: Sort;
  readonly selection: Selection;
  readonly isSelecting: boolean;
  readonly dispatch: (action: SelectionAction) => void;
  readonly hrefOf: (id: string) => string;
  readonly onOpen: (id: string) => void;
  readonly hasMore: boolean;
  readonly onMore: () => void;
  readonly onBroken: () => void;
  readonly ref?: Ref<GridHandle>;
}

/** The photos in rows of equal height. Only rows near the window are in the document. */
export function PhotoGrid(props: PhotoGridProps) {
  const {
    photos,
    sort,
    selection,
    isSelecting,
    dispatch,
    hrefOf,
    onOpen,
    hasMore,
    onMore,
    onBroken,
    ref,
  } = props;
  const { t } = useTranslation();
  const [{ width }, measure] = useElementSize();
  const grid = useRef<HTMLDivElement>(null);
  const [margin, setMargin] = useState(0);
  const [active, setActive] = useState<string | null>(null);

  const byId = useMemo(() => new Map(photos.map((photo) => [photo.photoId, photo])), [photos]);
  const order = useMemo(() => photos.map((photo) => photo.photoId), [photos]);
  const options = useMemo(() => gridOptions(width), [width]);
  const rows = useMemo(
    () =>
      width === 0
        ? []
        : layOut(
            photos.map((photo) => ({
              id: photo.photoId,
              ratio:
                photo.width !== null && photo.height !== null ? photo.width / photo.height : null,
              group: dayOf(photo, sort),
            })),
            options,
          ),
    [photos, sort, options, width],
  );
  const activeId = active !== null && byId.has(active) ? active : (order[0] ?? null);

  const virtualizer = useWindowVirtualizer({
    count: rows.length,
    estimateSize: (index) => (rows[index]?.height ?? 0) + options.gap,
    getItemKey: (index) => keyOf(rows[index], index),
    overscan: OVERSCAN_ROWS,
    scrollMargin: margin,
    scrollPaddingStart: COVERED_TOP,
    scrollPaddingEnd: COVERED_BOTTOM,
  });
  // Heights are known, but the virtualizer keeps those of the layout before.
  useLayoutEffect(() => {
    virtualizer.measure();
  }, [virtualizer, rows]);
  useLayoutEffect(() => {
    const top = grid.current?.getBoundingClientRect().top;
    if (top !== undefined) setMargin(Math.round(top + window.scrollY));
  }, [width, isSelecting]);

  const focus = useGridFocus({
    grid,
    rows,
    activeId,
    setActiveId: setActive,
    reveal: (index) => {
      virtualizer.scrollToIndex(index, { align: "auto" });
    },
    onToggle: (id) => {
      dispatch({ type: "toggle", id });
    },
    onRange: (id) => {
      dispatch({ type: "range", id, order });
    },
  });
  useImperativeHandle(ref, () => ({ focus: focus.focus }));

  const last = photos.at(-1);
  const lastGroup = last === undefined ? null : dayOf(last, sort);
  const items = virtualizer.getVirtualItems();
  const lastRow = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasMore && width > 0 && lastRow >= rows.length - ROWS_BEFORE_END) onMore();
  }, [hasMore, width, lastRow, rows.length, onMore]);

  const onSelect = useMemo(
    () => (id: string, isRange: boolean) => {
      dispatch(isRange ? { type: "range", id, order } : { type: "toggle", id });
    },
    [dispatch, order],
  );

  return (
    <div ref={measure}>
      <div
        ref={grid}
        role="grid"
        tabIndex={-1}
        aria-label={t("gallery.gridLabel")}
        aria-multiselectable
        aria-rowcount={hasMore ? -1 : rows.length}
        className={styles["grid"]}
        style={{ blockSize: virtualizer.getTotalSize() }}
        onKeyDown={focus.onKeyDown}
      >
        {items.map((item) => {
          const row = rows[item.index];
          if (row === undefined) return null;
          return (
            <div
              key={item.key}
              role="row"
              aria-rowindex={item.index + 1}
              className={styles["row"]}
              style={{ blockSize: row.height, transform: `translateY(${item.start - margin}px)` }}
            >
              {row.kind === "heading" ? (
                <DayHeading
                  day={row.group}
                  ids={row.ids}
                  isComplete={!hasMore || row.group !== lastGroup}
                  selection={selection}
                  dispatch={dispatch}
                />
              ) : (
                row.tiles.map((tile) => {
                  const photo = byId.get(tile.id);
                  if (photo === undefined) return null;
                  return (
                    <div
                      key={tile.id}
                      role="gridcell"
                      aria-selected={selection.ids.has(tile.id)}
                      className={styles["cell"]}
                      style={{ insetInlineStart: tile.left, inlineSize: tile.width }}
                    >
                      <PhotoTile
                        photo={photo}
                        href={hrefOf(tile.id)}
                        width={tile.width}
                        height={row.height}
                        isSelected={selection.ids.has(tile.id)}
                        isSelecting={isSelecting}
                        isTabStop={tile.id === activeId}
                        onOpen={onOpen}
                        onSelect={onSelect}
                        onFocus={setActive}
                        onBroken={onBroken}
                      />
                    </div>
                  );
                })
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function keyOf(row: Row | undefined, index: number): string {
  if (row === undefined) return String(index);
  return row.kind === "heading" ? `day ${row.group} ${index}` : (row.tiles[0]?.id ?? String(index));
}

interface DayHeadingProps {
  readonly day: string;
  readonly ids: readonly string[];
  /** Whether all photos of the day are loaded. */
  readonly isComplete: boolean;
  readonly selection: Selection;
  readonly dispatch: (action: SelectionAction) => void;
}

function DayHeading({ day, ids, isComplete, selection, dispatch }: DayHeadingProps) {
  const { t, i18n } = useTranslation();
  const text = dayHeading(
    day,
    new Date(),
    { today: t("gallery.today"), yesterday: t("gallery.yesterday") },
    regionalLocale(i18n.language),
  );
  const selected = ids.filter((id) => selection.ids.has(id)).length;
  const isAll = selected === ids.length;
  return (
    <div role="rowheader" className={styles["heading"]}>
      <h2 className={styles["day"]}>{text}</h2>
      {isComplete && (
        <span className={styles["count"]}>{t("gallery.photoCount", { count: ids.length })}</span>
      )}
      <button
        type="button"
        role="checkbox"
        aria-checked={isAll ? true : selected > 0 ? "mixed" : false}
        aria-label={t("gallery.selectDay", { day: text })}
        className={classes(
          styles["dayCheck"],
          isAll && styles["checked"],
          selected > 0 && styles["shown"],
        )}
        onClick={() => {
          dispatch({ type: "toggleAll", ids });
        }}
      >
        <span className={styles["dayMark"]}>
          <Check aria-hidden size={12} strokeWidth={3} />
        </span>
      </button>
    </div>
  );
}
