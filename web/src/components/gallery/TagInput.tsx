import { useId, useState, type KeyboardEvent } from "react";
import { useTranslation } from "react-i18next";
import { Plus } from "@/design/icons";
import { classes } from "@/lib/classes";
import { useTags } from "./queries";
import { normalizeTag, suggestTags } from "./tags";
import styles from "./TagInput.module.css";

export interface TagInputProps {
  /** Not suggested: the photo has them. */
  readonly taken: readonly string[];
  readonly onAdd: (tag: string) => void;
  readonly isBusy?: boolean;
  /** Whether the dialog around it gives it the focus when it opens. */
  readonly isFirst?: boolean;
}

/** A field for a tag, with those of other photos to choose from. */
export function TagInput({ taken, onAdd, isBusy = false, isFirst = false }: TagInputProps) {
  const { t } = useTranslation();
  const { tags } = useTags();
  const id = useId();
  const [text, setText] = useState("");
  const [isOpen, setIsOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const typed = normalizeTag(text);
  const options = suggestTags(tags, typed, taken);
  const isShown = isOpen && options.length > 0;
  const activeOption = isShown ? options[active] : undefined;

  const add = (tag: string) => {
    if (tag === "" || isBusy) return;
    onAdd(tag);
    setText("");
    setActive(-1);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter") {
      event.preventDefault();
      add(activeOption?.label ?? typed);
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      setIsOpen(true);
      const step = event.key === "ArrowDown" ? 1 : -1;
      const from = active < 0 && step < 0 ? 0 : active;
      if (options.length > 0) setActive((from + step + options.length) % options.length);
    } else if (event.key === "Escape" && isShown) {
      // The dialog around it stays.
      event.preventDefault();
      event.stopPropagation();
      setIsOpen(false);
      setActive(-1);
    }
  };
  return (
    <div className={styles["root"]}>
      <input
        ref={(element) => {
          // React's `autoFocus` focuses at once; the dialog heeds the attribute when it opens.
          if (isFirst) element?.setAttribute("autofocus", "");
        }}
        type="text"
        role="combobox"
        className={styles["input"]}
        aria-label={t("photo.addTag")}
        aria-expanded={isShown}
        aria-controls={isShown ? `${id}-list` : undefined}
        aria-autocomplete="list"
        aria-activedescendant={activeOption === undefined ? undefined : `${id}-${active}`}
        placeholder={t("photo.addTag")}
        value={text}
        maxLength={64}
        autoComplete="off"
        onChange={(event) => {
          setText(event.target.value);
          setIsOpen(true);
          setActive(-1);
        }}
        onFocus={() => {
          setIsOpen(true);
        }}
        onBlur={() => {
          setIsOpen(false);
        }}
        onKeyDown={onKeyDown}
      />
      <button
        type="button"
        className={styles["add"]}
        aria-label={t("photo.addThisTag")}
        disabled={typed === "" || isBusy}
        onClick={() => {
          add(typed);
        }}
      >
        <Plus aria-hidden size={16} />
      </button>
      {isShown && (
        <div
          id={`${id}-list`}
          role="listbox"
          aria-label={t("photo.tagSuggestions")}
          className={styles["list"]}
        >
          {options.map((option, index) => (
            // The keyboard is served by the combobox, which keeps the focus.
            // eslint-disable-next-line jsx-a11y/click-events-have-key-events
            <div
              key={option.label}
              id={`${id}-${index}`}
              role="option"
              tabIndex={-1}
              aria-selected={index === active}
              className={classes(styles["option"], index === active && styles["active"])}
              onPointerDown={(event) => {
                event.preventDefault(); // the field keeps the focus
              }}
              onClick={() => {
                add(option.label);
              }}
            >
              <bdi>{option.label}</bdi>
              <span className={styles["count"]}>{option.count}</span>
            </div>
          ))}
        </div>
      )}
    </div>
  );
}
