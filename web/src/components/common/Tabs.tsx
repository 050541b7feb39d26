import { useId, useRef, type KeyboardEvent, type ReactNode } from "react";
import { classes } from "@/lib/classes";
import styles from "./Tabs.module.css";

export interface Tab<Id extends string> {
  readonly id: Id;
  readonly label: string;
  readonly count?: string;
  /** For readers of screens, in place of a count that is shortened. */
  readonly exactCount?: string;
  readonly tone?: "neutral" | "danger";
}

export interface TabsProps<Id extends string> {
  readonly label: string;
  readonly tabs: readonly Tab<Id>[];
  readonly selected: Id;
  readonly onSelect: (id: Id) => void;
  /** What the selected tab shows. */
  readonly children: ReactNode;
  readonly panelClassName?: string | undefined;
  /** False if the panel has something to focus itself. */
  readonly isPanelFocusable?: boolean;
}

/** Tabs that select with the focus: arrow keys, Home and End. */
export function Tabs<Id extends string>({
  label,
  tabs,
  selected,
  onSelect,
  children,
  panelClassName,
  isPanelFocusable = false,
}: TabsProps<Id>) {
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const onKeyDown = (event: KeyboardEvent<HTMLDivElement>) => {
    const index = tabs.findIndex((tab) => tab.id === selected);
    const isReversed = getComputedStyle(event.currentTarget).direction === "rtl";
    const steps: Record<string, number> = {
      ArrowRight: index + (isReversed ? -1 : 1),
      ArrowLeft: index + (isReversed ? 1 : -1),
      Home: 0,
      End: tabs.length - 1,
    };
    const step = steps[event.key];
    const next = step === undefined ? undefined : tabs.at(step % tabs.length);
    if (!next) return;
    event.preventDefault();
    onSelect(next.id);
    list.current?.querySelector<HTMLElement>(`[data-tab="${next.id}"]`)?.focus();
  };
  return (
    <>
      <div
        ref={list}
        role="tablist"
        tabIndex={-1}
        aria-label={label}
        className={styles["list"]}
        onKeyDown={onKeyDown}
      >
        {tabs.map((tab) => (
          <button
            key={tab.id}
            type="button"
            role="tab"
            id={`${id}-${tab.id}`}
            data-tab={tab.id}
            aria-selected={tab.id === selected}
            aria-controls={`${id}-panel`}
            aria-label={
              tab.exactCount === undefined || tab.exactCount === tab.count
                ? undefined
                : `${tab.label} ${tab.exactCount}`
            }
            tabIndex={tab.id === selected ? 0 : -1}
            className={classes(styles["tab"], tab.tone === "danger" && styles["danger"])}
            onClick={() => {
              onSelect(tab.id);
            }}
          >
            {tab.label}
            {tab.count !== undefined && <span className={styles["count"]}>{tab.count}</span>}
          </button>
        ))}
      </div>
      <div
        role="tabpanel"
        id={`${id}-panel`}
        aria-labelledby={`${id}-${selected}`}
        // A panel of text alone has to be reachable to be scrolled by keyboard (ARIA tabs pattern).
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        tabIndex={isPanelFocusable ? 0 : undefined}
        className={panelClassName}
      >
        {children}
      </div>
    </>
  );
}
