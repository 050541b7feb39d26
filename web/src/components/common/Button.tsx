import type { ButtonHTMLAttributes, ReactNode, Ref } from "react";
import { LoaderCircle, type LucideIcon } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./Button.module.css";

export type ButtonVariant = "primary" | "secondary" | "ghost" | "danger";
export type ButtonSize = "sm" | "md";

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  readonly variant?: ButtonVariant;
  readonly size?: ButtonSize;
  readonly icon?: LucideIcon;
  /** Shows a spinner and takes no clicks; the button keeps its width and its focus. */
  readonly isLoading?: boolean;
  readonly isBlock?: boolean;
  readonly children: ReactNode;
  readonly ref?: Ref<HTMLButtonElement>;
}

export function Button({
  variant = "secondary",
  size = "md",
  icon: Icon,
  isLoading = false,
  isBlock = false,
  className,
  children,
  onClick,
  type = "button",
  ...rest
}: ButtonProps) {
  return (
    <button
      {...rest}
      type={type}
      aria-busy={isLoading || undefined}
      aria-disabled={isLoading || undefined}
      className={classes(
        styles["button"],
        styles[variant],
        styles[size],
        isBlock && styles["block"],
        isLoading && styles["loading"],
        className,
      )}
      onClick={(event) => {
        if (isLoading) event.preventDefault();
        else onClick?.(event);
      }}
    >
      {isLoading ? (
        <LoaderCircle aria-hidden className={styles["spinner"]} size={16} />
      ) : (
        Icon && <Icon aria-hidden size={16} />
      )}
      <span className={styles["label"]}>{children}</span>
    </button>
  );
}
