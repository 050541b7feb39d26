import { useTranslation } from "react-i18next";
import { ChooseAgain } from "@/components/upload/ChooseAgain";
import { ConcurrencySetting } from "@/components/upload/ConcurrencySetting";
import { DropZone } from "@/components/upload/DropZone";
import { UploadQueue } from "@/components/upload/UploadQueue";
import { useUploadState } from "@/hooks/useUpload";
import styles from "./UploadPage.module.css";

export function UploadPage() {
  const { t } = useTranslation();
  const hasItems = useUploadState((state) => state.summary.total > 0);
  return (
    <div className={styles["page"]} data-has-items={hasItems}>
      <div className={styles["intro"]}>
        <div className={styles["titles"]}>
          <h1>{t("uploadPage.title")}</h1>
          <p className={styles["text"]}>{t("uploadPage.text")}</p>
        </div>
        <ConcurrencySetting />
      </div>
      <ChooseAgain />
      <DropZone isCompact={hasItems} />
      <UploadQueue />
    </div>
  );
}
