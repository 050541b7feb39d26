import { memo } from "react";
import type { Tone } from "@/components/common/Badge";
import { classes } from "@/lib/classes";
import styles from "./ProgressBar.module.css";

export interface ProgressBarProps {
  /** From 0 to 1. */
  readonly share: number;
  readonly tone: Tone;
  /** What progresses, for readers of screens. */
  readonly label: string;
  /** How far it is, such as "42 %, uploading". */
  readonly valueText: string;
  readonly size?: "sm" | "md";
}

/** A bar that moves by its transform alone, so that a step costs no layout and no paint. */
export const ProgressBar = memo(function ProgressBar({
  share,
  tone,
  label,
  valueText,
  size = "sm",
}: ProgressBarProps) {
  const clamped = Math.min(1, Math.max(0, share));
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.floor(clamped * 100)}
      aria-valuetext={valueText}
      className={classes(styles["track"], styles[size])}
    >
      <div
        className={classes(styles["fill"], styles[tone])}
        style={{ transform: `scaleX(${clamped.toFixed(4)})` }}
      />
    </div>
  );
});
