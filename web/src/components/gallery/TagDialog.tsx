import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { Dialog } from "@/components/common/Dialog";
import { TagInput } from "./TagInput";
import { TagList } from "./TagList";
import styles from "./TagDialog.module.css";

export interface TagDialogProps {
  /** Of the photos that get the tags. */
  readonly count: number;
  readonly onClose: () => void;
  readonly onApply: (tags: readonly string[]) => void;
}

/** Choose tags for the selected photos. */
export function TagDialog({ count, onClose, onApply }: TagDialogProps) {
  const { t } = useTranslation();
  const [tags, setTags] = useState<readonly string[]>([]);
  return (
    <Dialog
      isOpen
      onClose={onClose}
      size="sm"
      title={t("gallery.tagTitle", { count })}
      description={t("gallery.tagText")}
      footer={
        <>
          <Button onClick={onClose}>{t("common.cancel")}</Button>
          <Button
            variant="primary"
            disabled={tags.length === 0}
            onClick={() => {
              onApply(tags);
            }}
          >
            {t("gallery.tagApply")}
          </Button>
        </>
      }
    >
      <div className={styles["body"]}>
        <TagInput
          isFirst
          taken={tags}
          onAdd={(tag) => {
            setTags((before) => (before.includes(tag) ? before : [...before, tag]));
          }}
        />
        <TagList
          tags={tags}
          onRemove={(tag) => {
            setTags((before) => before.filter((each) => each !== tag));
          }}
        />
      </div>
    </Dialog>
  );
}
