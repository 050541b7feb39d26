import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Search, X } from "@/design/icons";
import styles from "./FilterBar.module.css";

/** Pause after the last key before photos are searched. */
const DEBOUNCE_MS = 300;

export interface SearchFieldProps {
  readonly value: string;
  readonly onChange: (value: string) => void;
}

/** Search by name, once the person pauses or presses Enter. */
export function SearchField({ value, onChange }: SearchFieldProps) {
  const { t } = useTranslation();
  const [text, setText] = useState(value);
  const [shown, setShown] = useState(value);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  // A change from elsewhere, such as "clear filters" or the browser's back, replaces the text.
  if (value !== shown) {
    setShown(value);
    if (value !== text.trim()) setText(value);
  }
  useEffect(
    () => () => {
      clearTimeout(timer.current);
    },
    [],
  );
  const send = (next: string, delay: number) => {
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      onChange(next.trim());
    }, delay);
  };
  return (
    <form
      role="search"
      className={styles["search"]}
      onSubmit={(event) => {
        event.preventDefault();
        send(text, 0);
      }}
    >
      <Search aria-hidden size={16} className={styles["searchIcon"]} />
      <input
        type="search"
        className={styles["searchInput"]}
        aria-label={t("gallery.search")}
        placeholder={t("gallery.search")}
        value={text}
        maxLength={255}
        autoComplete="off"
        spellCheck={false}
        onChange={(event) => {
          send(event.target.value, DEBOUNCE_MS);
        }}
      />
      {text !== "" && (
        <button
          type="button"
          className={styles["searchClear"]}
          aria-label={t("gallery.clearSearch")}
          onClick={() => {
            send("", 0);
          }}
        >
          <X aria-hidden size={14} />
        </button>
      )}
    </form>
  );
}
