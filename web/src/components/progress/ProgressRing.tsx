import { memo, type ReactNode } from "react";
import type { Tone } from "@/components/common/Badge";
import { classes } from "@/lib/classes";
import styles from "./ProgressRing.module.css";

export interface ProgressRingProps {
  /** From 0 to 1. */
  readonly share: number;
  readonly tone: Tone;
  /** Pixels. */
  readonly size?: number;
  /** Inside the ring, such as an icon. */
  readonly children?: ReactNode;
}

const STROKE = 3;

/** A ring of progress. Decorative: whatever it stands in says how far things are. */
export const ProgressRing = memo(function ProgressRing({
  share,
  tone,
  size = 48,
  children,
}: ProgressRingProps) {
  const radius = (size - STROKE) / 2;
  const length = 2 * Math.PI * radius;
  const clamped = Math.min(1, Math.max(0, share));
  const circle = { cx: size / 2, cy: size / 2, r: radius, strokeWidth: STROKE, fill: "none" };
  return (
    <span className={classes(styles["ring"], styles[tone])}>
      <svg aria-hidden width={size} height={size} viewBox={`0 0 ${size} ${size}`}>
        <circle {...circle} className={styles["track"]} />
        <circle
          {...circle}
          className={styles["value"]}
          strokeLinecap="round"
          strokeDasharray={length}
          strokeDashoffset={length * (1 - clamped)}
        />
      </svg>
      <span className={styles["content"]}>{children}</span>
    </span>
  );
});
