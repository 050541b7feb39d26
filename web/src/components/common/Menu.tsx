import { useEffect, useId, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Check, type LucideIcon } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./Menu.module.css";

export interface MenuItem {
  readonly id: string;
  readonly label: string;
  readonly icon?: LucideIcon;
  readonly onSelect: () => void;
  readonly isDisabled?: boolean;
  readonly tone?: "neutral" | "danger";
  /** For a choice of one: true and false make it a radio item. */
  readonly isChecked?: boolean;
  /** A line above it. */
  readonly beginsGroup?: boolean;
}

/** What the button that opens the menu has to take. */
export interface MenuTriggerProps {
  readonly id: string;
  readonly "aria-haspopup": "menu";
  readonly "aria-expanded": boolean;
  readonly "aria-controls": string | undefined;
  readonly onClick: () => void;
  readonly onKeyDown: (event: KeyboardEvent) => void;
}

export interface MenuProps {
  readonly items: readonly MenuItem[];
  readonly trigger: (props: MenuTriggerProps) => ReactNode;
  /** Text above the items, for example who is logged in. */
  readonly header?: ReactNode;
  readonly align?: "start" | "end";
  readonly side?: "below" | "above";
}

/** A menu of actions: arrow keys, Home, End, first letters, Escape; closes on a click elsewhere. */
export function Menu({ items, trigger, header, align = "end", side = "below" }: MenuProps) {
  const [isOpen, setIsOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();

  const itemElements = () => [
    ...(root.current?.querySelectorAll<HTMLButtonElement>(
      '[role^="menuitem"]:not([aria-disabled="true"])',
    ) ?? []),
  ];
  const close = (returnsFocus: boolean) => {
    setIsOpen(false);
    if (returnsFocus) document.getElementById(`${id}-trigger`)?.focus();
  };

  useEffect(() => {
    if (!isOpen) return;
    root.current
      ?.querySelector<HTMLElement>('[role^="menuitem"]:not([aria-disabled="true"])')
      ?.focus({ preventScroll: true });
    const onPointer = (event: PointerEvent) => {
      if (event.target instanceof Node && !root.current?.contains(event.target)) setIsOpen(false);
    };
    document.addEventListener("pointerdown", onPointer);
    return () => {
      document.removeEventListener("pointerdown", onPointer);
    };
  }, [isOpen]);

  const onMenuKey = (event: KeyboardEvent) => {
    const elements = itemElements();
    const current = elements.findIndex((element) => element === document.activeElement);
    const focus = (index: number) => {
      elements.at(index % elements.length)?.focus();
      event.preventDefault();
    };
    if (event.key === "ArrowDown") focus(current + 1);
    else if (event.key === "ArrowUp") focus(current - 1);
    else if (event.key === "Home") focus(0);
    else if (event.key === "End") focus(-1);
    else if (event.key === "Tab") close(false);
    else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      close(true);
    } else if (event.key.length === 1 && event.key !== " ") {
      const letter = event.key.toLocaleLowerCase();
      const following = [...elements.slice(current + 1), ...elements.slice(0, current + 1)];
      following
        .find((element) => element.textContent.trim().toLocaleLowerCase().startsWith(letter))
        ?.focus();
    }
  };

  return (
    <div className={styles["root"]} ref={root}>
      {trigger({
        id: `${id}-trigger`,
        "aria-haspopup": "menu",
        "aria-expanded": isOpen,
        "aria-controls": isOpen ? `${id}-menu` : undefined,
        onClick: () => {
          setIsOpen(!isOpen);
        },
        onKeyDown: (event) => {
          if (event.key !== "ArrowDown" || isOpen) return;
          event.preventDefault();
          setIsOpen(true);
        },
      })}
      {isOpen && (
        <div className={classes(styles["popup"], styles[align], styles[side])}>
          {header !== undefined && <div className={styles["header"]}>{header}</div>}
          <div
            id={`${id}-menu`}
            role="menu"
            tabIndex={-1}
            aria-labelledby={`${id}-trigger`}
            onKeyDown={onMenuKey}
          >
            {items.map((item) => (
              <button
                key={item.id}
                type="button"
                tabIndex={-1}
                role={item.isChecked === undefined ? "menuitem" : "menuitemradio"}
                aria-checked={item.isChecked}
                aria-disabled={item.isDisabled}
                className={classes(
                  styles["item"],
                  item.tone === "danger" && styles["danger"],
                  item.beginsGroup === true && styles["group"],
                )}
                onClick={() => {
                  if (item.isDisabled === true) return;
                  close(true);
                  item.onSelect();
                }}
              >
                {item.icon && <item.icon aria-hidden size={16} />}
                <span className={styles["label"]}>{item.label}</span>
                {item.isChecked === true && (
                  <Check aria-hidden size={16} className={styles["check"]} />
                )}
              </button>
            ))}
          </div>
        </div>
      )}
    </div>
  );
}
