import { useTranslation } from "react-i18next";
import { useShallow } from "zustand/react/shallow";
import { Button } from "@/components/common/Button";
import { ListX, Pause, Play } from "@/design/icons";
import { useUploadActions, useUploadState } from "@/hooks/useUpload";
import { openCount } from "@/components/progress/phases";
import styles from "./UploadQueue.module.css";

/** Title, figures and common actions of the queue. */
export function QueueHeader() {
  const { t } = useTranslation();
  const actions = useUploadActions();
  const isPaused = useUploadState((state) => state.isPaused);
  const { waiting, active, completed, canPause, canClear } = useUploadState(
    useShallow(({ summary }) => ({
      waiting: summary.waiting + summary.paused + summary.needsFile,
      active: summary.uploading + summary.processing,
      completed: summary.completed,
      canPause: summary.waiting + summary.uploading + summary.paused > 0,
      canClear: summary.total > openCount(summary),
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
        {canClear && (
          <Button
            size="sm"
            variant="ghost"
            icon={ListX}
            onClick={() => {
              actions.clearEnded();
            }}
          >
            {t("panel.clear")}
          </Button>
        )}
      </div>
    </header>
  );
}
