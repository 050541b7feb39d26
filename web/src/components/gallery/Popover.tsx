import { useEffect, useId, useRef, useState, type ReactNode } from "react";
import { classes } from "@/lib/classes";
import styles from "./Popover.module.css";

export interface PopoverTriggerProps {
  readonly id: string;
  readonly "aria-haspopup": "dialog";
  readonly "aria-expanded": boolean;
  readonly "aria-controls": string | undefined;
  readonly onClick: () => void;
}

export interface PopoverProps {
  readonly label: string;
  readonly trigger: (props: PopoverTriggerProps) => ReactNode;
  readonly children: (close: () => void) => ReactNode;
  readonly align?: "start" | "end";
}

/** Controls that open below a button; Escape and a click elsewhere close them. */
export function Popover({ label, trigger, children, align = "start" }: PopoverProps) {
  const [isOpen, setIsOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const popup = useRef<HTMLDivElement>(null);
  const id = useId();

  useEffect(() => {
    if (!isOpen) return;
    popup.current?.querySelector<HTMLElement>("input, button")?.focus({ preventScroll: true });
    const onPointer = (event: PointerEvent) => {
      if (event.target instanceof Node && root.current?.contains(event.target) === false)
        setIsOpen(false);
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      setIsOpen(false);
      document.getElementById(`${id}-trigger`)?.focus();
    };
    const element = root.current;
    document.addEventListener("pointerdown", onPointer);
    element?.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("pointerdown", onPointer);
      element?.removeEventListener("keydown", onKey);
    };
  }, [isOpen, id]);

  return (
    <div ref={root} className={styles["root"]}>
      {trigger({
        id: `${id}-trigger`,
        "aria-haspopup": "dialog",
        "aria-expanded": isOpen,
        "aria-controls": isOpen ? id : undefined,
        onClick: () => {
          setIsOpen(!isOpen);
        },
      })}
      {isOpen && (
        <div
          ref={popup}
          id={id}
          role="dialog"
          aria-label={label}
          className={classes(styles["popup"], styles[align])}
        >
          {children(() => {
            setIsOpen(false);
            document.getElementById(`${id}-trigger`)?.focus();
          })}
        </div>
      )}
    </div>
  );
}
