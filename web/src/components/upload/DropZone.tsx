import { useTranslation } from "react-i18next";
import { CloudUpload, FolderUp, ImageUp } from "@/design/icons";
import { useUploadState } from "@/hooks/useUpload";
import { useFormat } from "@/lib/i18n/format";
import { FilePicker } from "./FilePicker";
import { useAddFiles } from "./useAddFiles";
import styles from "./DropZone.module.css";

export interface DropZoneProps {
  /** Low, when there is a queue below it. */
  readonly isCompact: boolean;
}

/** Where photos are chosen, and which shows that they can be dropped: DropTarget takes them. */
export function DropZone({ isCompact }: DropZoneProps) {
  const { t } = useTranslation();
  const format = useFormat();
  const addFiles = useAddFiles();
  const maxPhotoBytes = useUploadState((state) => state.limits.maxPhotoBytes);
  const isKnown = Number.isFinite(maxPhotoBytes);
  return (
    <div className={styles["zone"]} data-compact={isCompact}>
      <span className={styles["icon"]}>
        <CloudUpload aria-hidden size={isCompact ? 24 : 32} strokeWidth={1.75} />
      </span>
      <div className={styles["texts"]}>
        <p className={styles["title"]}>{t("drop.title")}</p>
        <p className={styles["hint"]}>
          {isKnown ? t("drop.hint", { size: format.bytes(maxPhotoBytes) }) : t("drop.hintTypes")}
        </p>
      </div>
      <div className={styles["buttons"]}>
        <FilePicker
          variant="primary"
          icon={ImageUp}
          onPick={(collected) => {
            addFiles(() => collected);
          }}
        >
          {t("drop.chooseFiles")}
        </FilePicker>
        <FilePicker
          isFolder
          className={styles["folder"]}
          icon={FolderUp}
          onPick={(collected) => {
            addFiles(() => collected);
          }}
        >
          {t("drop.chooseFolder")}
        </FilePicker>
      </div>
    </div>
  );
}
