import type { ReactNode } from "react";
import type { LucideIcon } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./Badge.module.css";

export type Tone = "neutral" | "accent" | "info" | "success" | "warning" | "danger";

export interface BadgeProps {
  readonly tone?: Tone;
  readonly icon?: LucideIcon;
  readonly isSpinning?: boolean;
  readonly title?: string;
  readonly children: ReactNode;
}

/** A short state or label, told by its words first and by its colour second. */
export function Badge({
  tone = "neutral",
  icon: Icon,
  isSpinning = false,
  title,
  children,
}: BadgeProps) {
  return (
    <span className={classes(styles["badge"], styles[tone])} title={title}>
      {Icon && <Icon aria-hidden size={12} className={classes(isSpinning && styles["spinning"])} />}
      <span className={styles["text"]}>{children}</span>
    </span>
  );
}
