import { useId, type InputHTMLAttributes, type ReactNode, type Ref } from "react";
import { CircleAlert } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./TextField.module.css";

export interface TextFieldProps extends Omit<InputHTMLAttributes<HTMLInputElement>, "id"> {
  readonly label: string;
  readonly hint?: ReactNode;
  /** What is wrong, then what to do. */
  readonly error?: string | null | undefined;
  readonly isLabelHidden?: boolean;
  /** A button at the end of the field, within its border. */
  readonly trailing?: ReactNode;
  readonly ref?: Ref<HTMLInputElement>;
}

export function TextField({
  label,
  hint,
  error,
  isLabelHidden = false,
  trailing,
  className,
  ...rest
}: TextFieldProps) {
  const id = useId();
  const hasError = error !== undefined && error !== null;
  const describedBy =
    [hint !== undefined && `${id}-hint`, hasError && `${id}-error`].filter(Boolean).join(" ") ||
    undefined;
  return (
    <div className={classes(styles["field"], className)}>
      <label htmlFor={id} className={isLabelHidden ? "visually-hidden" : classes(styles["label"])}>
        {label}
      </label>
      <div className={styles["control"]}>
        <input
          {...rest}
          id={id}
          className={classes(styles["input"], trailing !== undefined && styles["hasTrailing"])}
          aria-invalid={hasError || undefined}
          aria-describedby={describedBy}
        />
        {trailing !== undefined && <div className={styles["trailing"]}>{trailing}</div>}
      </div>
      {hint !== undefined && (
        <p id={`${id}-hint`} className={styles["hint"]}>
          {hint}
        </p>
      )}
      {hasError && (
        <p id={`${id}-error`} className={styles["error"]}>
          <CircleAlert aria-hidden size={14} />
          {error}
        </p>
      )}
    </div>
  );
}
