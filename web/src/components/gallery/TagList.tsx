import { useTranslation } from "react-i18next";
import { X } from "@/design/icons";
import styles from "./TagDialog.module.css";

export interface TagListProps {
  readonly tags: readonly string[];
  readonly onRemove: (tag: string) => void;
}

/** Tags, each with a button that takes it off. */
export function TagList({ tags, onRemove }: TagListProps) {
  const { t } = useTranslation();
  if (tags.length === 0) return null;
  return (
    <ul className={styles["list"]} aria-label={t("photo.tags")}>
      {tags.map((tag) => (
        <li key={tag} className={styles["tag"]}>
          <bdi title={tag}>{tag}</bdi>
          <button
            type="button"
            className={styles["remove"]}
            aria-label={t("photo.removeTag", { tag })}
            onClick={() => {
              onRemove(tag);
            }}
          >
            <X aria-hidden size={14} />
          </button>
        </li>
      ))}
    </ul>
  );
}
