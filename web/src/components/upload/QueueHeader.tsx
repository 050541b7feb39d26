import { useTranslation } from "react-i18next";
import { useShallow } from "zustand/react/shallow";
import { Button } from "@/components/common/Button";
import { Pause, Play } from "@/design/icons";
import { useUploadActions, useUploadState } from "@/hooks/useUpload";
import { ClearButton } from "./ClearButton";
import styles from "./UploadQueue.module.css";

/** Title, figures and common actions of the queue. */
export function QueueHeader() {
  const { t } = useTranslation();
  const actions = useUploadActions();
  const isPaused = useUploadState((state) => state.isPaused);
  const { waiting, active, completed, canPause } = useUploadState(
    useShallow(({ summary }) => ({
      waiting: summary.waiting + summary.paused + summary.needsFile,
      active: summary.uploading + summary.processing,
      completed: summary.completed,
      canPause: summary.waiting + summary.uploading + summary.paused > 0,
    })),
  );
  return (
    <header className={styles["header"]}>
      <div className={styles["titles"]}>
        <h2 id="queue-title" className={styles["title"]}>
          {t("queue.title")}
        </h2>
        {waiting + active + completed > 0 && (
          <p className={styles["stats"]}>{t("queue.stats", { waiting, active, completed })}</p>
        )}
      </div>
      <div className={styles["buttons"]}>
        {canPause && (
          <Button
            size="sm"
            icon={isPaused ? Play : Pause}
            onClick={() => {
              if (isPaused) actions.resumeAll();
              else actions.pauseAll();
            }}
          >
            {t(isPaused ? "panel.resumeAll" : "panel.pauseAll")}
          </Button>
        )}
        <ClearButton />
      </div>
    </header>
  );
}
