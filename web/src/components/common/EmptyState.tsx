import type { ReactNode } from "react";
import type { LucideIcon } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./EmptyState.module.css";

export interface EmptyStateProps {
  readonly icon: LucideIcon;
  readonly title: string;
  readonly text?: ReactNode;
  /** Usually one Button. */
  readonly action?: ReactNode;
  readonly size?: "sm" | "md";
  readonly tone?: "neutral" | "danger";
  readonly headingLevel?: 1 | 2 | 3;
}

/** What a list shows that has nothing in it, or that could not be had. */
export function EmptyState({
  icon: Icon,
  title,
  text,
  action,
  size = "md",
  tone = "neutral",
  headingLevel = 2,
}: EmptyStateProps) {
  const Heading = `h${headingLevel}` as const;
  return (
    <div className={classes(styles["root"], styles[size], styles[tone])}>
      <span className={styles["icon"]}>
        <Icon aria-hidden size={size === "sm" ? 20 : 28} strokeWidth={1.75} />
      </span>
      <Heading className={styles["title"]}>{title}</Heading>
      {text !== undefined && <p className={styles["text"]}>{text}</p>}
      {action !== undefined && <div className={styles["action"]}>{action}</div>}
    </div>
  );
}
