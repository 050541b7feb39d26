import { useEffect, useId, useRef, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { X } from "@/design/icons";
import { classes } from "@/lib/classes";
import { IconButton } from "./IconButton";
import styles from "./Dialog.module.css";

export interface DialogProps {
  readonly isOpen: boolean;
  /** Escape, the close button, or a click beside it. */
  readonly onClose: () => void;
  readonly title: string;
  readonly description?: ReactNode;
  readonly children?: ReactNode;
  /** Buttons, the main one last. */
  readonly footer?: ReactNode;
  readonly size?: "sm" | "md" | "lg";
}

/** A modal dialog on <dialog>: the browser keeps the focus inside and gives it back. */
export function Dialog({
  isOpen,
  onClose,
  title,
  description,
  children,
  footer,
  size = "md",
}: DialogProps) {
  const { t } = useTranslation();
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (!dialog || !isOpen) return;
    if (!dialog.open) dialog.showModal();
    return () => {
      dialog.close();
    };
  }, [isOpen]);
  if (!isOpen) return null;
  return (
    // The click on the backdrop is a short cut: Escape and the close button do the same.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions, jsx-a11y/click-events-have-key-events
    <dialog
      ref={ref}
      className={classes(styles["dialog"], styles[size])}
      aria-labelledby={`${id}-title`}
      aria-describedby={description === undefined ? undefined : `${id}-text`}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) onClose();
      }}
    >
      <div className={styles["frame"]}>
        <header className={styles["header"]}>
          <h2 id={`${id}-title`} className={styles["title"]}>
            {title}
          </h2>
          <IconButton icon={X} label={t("common.close")} size="sm" onClick={onClose} />
        </header>
        <div className={styles["body"]}>
          {description !== undefined && (
            <p id={`${id}-text`} className={styles["text"]}>
              {description}
            </p>
          )}
          {children}
        </div>
        {footer !== undefined && <footer className={styles["footer"]}>{footer}</footer>}
      </div>
    </dialog>
  );
}
