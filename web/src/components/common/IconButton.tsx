import type { ButtonHTMLAttributes, Ref } from "react";
import type { LucideIcon } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./IconButton.module.css";

export interface IconButtonProps extends Omit<
  ButtonHTMLAttributes<HTMLButtonElement>,
  "children" | "aria-label"
> {
  readonly icon: LucideIcon;
  /** Accessible name. Name the thing that it acts on: "Cancel IMG_1.jpg". */
  readonly label: string;
  /** Hint of the pointer; the label if it is left out. */
  readonly hint?: string;
  readonly size?: "sm" | "md";
  readonly tone?: "neutral" | "danger";
  readonly ref?: Ref<HTMLButtonElement>;
}

export function IconButton({
  icon: Icon,
  label,
  hint,
  size = "md",
  tone = "neutral",
  className,
  type = "button",
  ...rest
}: IconButtonProps) {
  return (
    <button
      {...rest}
      type={type}
      aria-label={label}
      title={hint ?? label}
      className={classes(styles["button"], styles[size], styles[tone], className)}
    >
      <Icon aria-hidden size={size === "sm" ? 16 : 18} />
    </button>
  );
}
