import { memo, useCallback, useRef } from "react";
import { defaultRangeExtractor, useVirtualizer, type Range } from "@tanstack/react-virtual";
import { useDeferredGrowth } from "@/hooks/useDeferredGrowth";
import { UploadRow } from "./UploadRow";
import { VirtualRow } from "./VirtualRow";
import styles from "./VirtualUploadList.module.css";

export interface VirtualUploadListProps {
  readonly label: string;
  readonly ids: readonly string[];
}

/** Pixels of a row without a reason of its failure; others are measured. */
const ROW_HEIGHT = 80;

/** A list of any length in its own scroller, of which only the visible rows are in the page. */
export const VirtualUploadList = memo(function VirtualUploadList({
  label,
  ids: wanted,
}: VirtualUploadListProps) {
  const ids = useDeferredGrowth(wanted);
  const scroller = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLUListElement>(null);
  // The row with the focus stays in the page when it is scrolled away: the focus would be lost.
  const rangeExtractor = useCallback((range: Range) => {
    const indexes = defaultRangeExtractor(range);
    const row = list.current?.querySelector<HTMLElement>("li:focus-within");
    const focused = Number(row?.dataset["index"] ?? Number.NaN);
    if (Number.isNaN(focused) || indexes.includes(focused) || focused >= range.count) {
      return indexes;
    }
    return [...indexes, focused].sort((a, b) => a - b);
  }, []);

  const virtualizer = useVirtualizer({
    count: ids.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    getItemKey: (index) => ids[index] ?? index,
    rangeExtractor,
    overscan: 6,
  });
  return (
    <div ref={scroller} className={styles["scroller"]}>
      <ul
        ref={list}
        aria-label={label}
        className={styles["list"]}
        style={{ blockSize: virtualizer.getTotalSize() }}
      >
        {virtualizer.getVirtualItems().map((row) => {
          const id = ids[row.index];
          if (id === undefined) return null;
          return (
            <VirtualRow
              key={row.key}
              row={row}
              measure={virtualizer.measureElement}
              total={ids.length}
              className={styles["item"]}
            >
              <UploadRow id={id} />
            </VirtualRow>
          );
        })}
      </ul>
    </div>
  );
});
