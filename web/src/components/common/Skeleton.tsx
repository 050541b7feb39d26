import type { CSSProperties } from "react";
import { classes } from "@/lib/classes";
import styles from "./Skeleton.module.css";

export interface SkeletonProps {
  /** CSS lengths. */
  readonly width?: string;
  readonly height?: string;
  readonly aspectRatio?: string;
  readonly isRound?: boolean;
  readonly className?: string | undefined;
}

/** The place of something that is on its way. Say so once beside it with `aria-busy`. */
export function Skeleton({ width, height, aspectRatio, isRound, className }: SkeletonProps) {
  const style: CSSProperties = { inlineSize: width, blockSize: height, aspectRatio };
  return (
    <span
      aria-hidden
      className={classes(styles["skeleton"], isRound && styles["round"], className)}
      style={style}
    />
  );
}
