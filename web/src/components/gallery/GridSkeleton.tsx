import { useMemo } from "react";
import { Skeleton } from "@/components/common/Skeleton";
import { gridOptions } from "./gridOptions";
import { layOut } from "./layout";
import { useElementSize } from "./useElementSize";
import styles from "./PhotoGrid.module.css";

/** Shapes of a usual roll: a skeleton that looks like what comes moves nothing when it comes. */
const RATIOS = [1.5, 0.67, 1.33, 1.5, 1, 1.78, 0.75, 1.5, 1.33, 0.67, 1.5, 1.5, 1, 1.33, 0.8, 1.5];

/** The place of the grid while its first page is on its way. */
export function GridSkeleton() {
  const [{ width }, measure] = useElementSize();
  const options = useMemo(() => gridOptions(width), [width]);
  const rows = useMemo(() => {
    if (width === 0) return [];
    const shapes = RATIOS.map((ratio, index) => ({ id: String(index), ratio, group: "" }));
    return layOut(shapes, options).slice(0, 5);
  }, [options, width]);
  return (
    <div ref={measure} aria-hidden>
      {rows.map((row, index) =>
        row.kind === "heading" ? (
          <div key={row.group} className={styles["heading"]} style={{ blockSize: row.height }}>
            <Skeleton width="7rem" height="1.125rem" />
          </div>
        ) : (
          <div key={index} className={styles["skeletonRow"]} style={{ gap: options.gap }}>
            {row.tiles.map((tile) => (
              <Skeleton key={tile.id} width={`${tile.width}px`} height={`${row.height}px`} />
            ))}
          </div>
        ),
      )}
    </div>
  );
}
