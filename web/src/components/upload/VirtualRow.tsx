import type { ReactNode } from "react";
import type { VirtualItem, Virtualizer } from "@tanstack/react-virtual";
import { classes } from "@/lib/classes";
import styles from "./VirtualRow.module.css";

export interface VirtualRowProps {
  readonly row: VirtualItem;
  /** Measures the row: a reason of a failure makes it higher. */
  readonly measure: Virtualizer<Element | Window, Element>["measureElement"];
  /** Rows of the whole list, of which readers of screens hear. */
  readonly total: number;
  /** Pixels from the top of the scroller to the list. */
  readonly margin?: number;
  readonly className?: string | undefined;
  readonly children: ReactNode;
}

/** A row of a list of which only the visible rows are in the page: it lies where it would be. */
export function VirtualRow({
  row,
  measure,
  total,
  margin = 0,
  className,
  children,
}: VirtualRowProps) {
  return (
    <li
      ref={measure}
      data-index={row.index}
      aria-setsize={total}
      aria-posinset={row.index + 1}
      className={classes(styles["row"], className)}
      style={{ transform: `translateY(${row.start - margin}px)` }}
    >
      {children}
    </li>
  );
}
