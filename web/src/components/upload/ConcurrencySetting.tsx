import { useEffect, useId, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { IconButton } from "@/components/common/IconButton";
import { Settings2 } from "@/design/icons";
import { useFormat } from "@/lib/i18n/format";
import { clampConcurrency, uiStore, useUi } from "@/stores/uiStore";
import styles from "./ConcurrencySetting.module.css";

/** How many files are sent at once: a button that opens a slider. */
export function ConcurrencySetting() {
  const { t } = useTranslation();
  const format = useFormat();
  const concurrency = useUi((state) => state.concurrency);
  const [isOpen, setIsOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const id = useId();

  useEffect(() => {
    if (!isOpen) return;
    const onPointer = (event: PointerEvent) => {
      if (event.target instanceof Node && !root.current?.contains(event.target)) setIsOpen(false);
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      setIsOpen(false);
      root.current?.querySelector("button")?.focus();
    };
    document.addEventListener("pointerdown", onPointer);
    document.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("pointerdown", onPointer);
      document.removeEventListener("keydown", onKey);
    };
  }, [isOpen]);

  return (
    <div ref={root} className={styles["root"]}>
      <IconButton
        icon={Settings2}
        label={t("uploadPage.settings")}
        aria-expanded={isOpen}
        aria-controls={isOpen ? `${id}-popup` : undefined}
        onClick={() => {
          setIsOpen(!isOpen);
        }}
      />
      {isOpen && (
        <div id={`${id}-popup`} className={styles["popup"]}>
          <div className={styles["line"]}>
            <label htmlFor={`${id}-input`} className={styles["label"]}>
              {t("uploadPage.concurrency")}
            </label>
            <output htmlFor={`${id}-input`} className={styles["value"]}>
              {format.number(concurrency)}
            </output>
          </div>
          <input
            id={`${id}-input`}
            type="range"
            min={1}
            max={100}
            value={concurrency}
            aria-describedby={`${id}-hint`}
            className={styles["slider"]}
            onChange={({ currentTarget }) => {
              uiStore
                .getState()
                .set({ concurrency: clampConcurrency(currentTarget.valueAsNumber) });
            }}
          />
          <p id={`${id}-hint`} className={styles["hint"]}>
            {t("uploadPage.concurrencyHint")}
          </p>
        </div>
      )}
    </div>
  );
}
