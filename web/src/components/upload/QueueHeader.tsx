import { useTranslation } from "react-i18next";
import { useShallow } from "zustand/react/shallow";
import { Button } from "@/components/common/Button";
import { Pause, Play } from "@/design/icons";
import { useUploadActions, useUploadState } from "@/hooks/useUpload";
import { ClearButton } from "./ClearButton";
import styles from "./UploadQueue.module.css";

/** Those with uploads are told, in this order: a failure must not be missing among them. */
const STATES = [
  "waiting",
  "uploading",
  "paused",
  "needsFile",
  "processing",
  "completed",
  "failed",
  "cancelled",
] as const;

/** Title, figures and common actions of the queue. */
export function QueueHeader() {
  const { t } = useTranslation();
  const actions = useUploadActions();
  const isPaused = useUploadState((state) => state.isPaused);
  const counts = useUploadState(useShallow(({ summary }) => STATES.map((state) => summary[state])));
  const canPause = useUploadState(
    ({ summary }) => summary.waiting + summary.uploading + summary.paused > 0,
  );
  const stats = STATES.map((state, index) => ({ state, value: counts[index] ?? 0 }))
    .filter(({ value }) => value > 0)
    .map(({ state, value }) => t(`queue.stats.${state}`, { value }));
  return (
    <header className={styles["header"]}>
      <div className={styles["titles"]}>
        <h2 id="queue-title" className={styles["title"]}>
          {t("queue.title")}
        </h2>
        {stats.length > 0 && <p className={styles["stats"]}>{stats.join(" · ")}</p>}
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
