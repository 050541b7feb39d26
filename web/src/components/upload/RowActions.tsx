import { memo } from "react";
import { useTranslation } from "react-i18next";
import { IconButton } from "@/components/common/IconButton";
import { Pause, Play, RotateCw, X } from "@/design/icons";
import { useUploadActions } from "@/hooks/useUpload";
import type { UploadPhase } from "@/stores/uploadTypes";

export interface RowActionsProps {
  readonly id: string;
  readonly name: string;
  readonly phase: UploadPhase;
  readonly canRetry: boolean;
}

const CAN_CANCEL: ReadonlySet<UploadPhase> = new Set([
  "waiting",
  "sending",
  "paused",
  "needs-file",
]);
const CAN_CLEAR: ReadonlySet<UploadPhase> = new Set([
  "completed",
  "failed",
  "cancelled",
  "rejected",
  "duplicate",
]);

/** What can be done with one upload as it is. */
export const RowActions = memo(function RowActions({ id, name, phase, canRetry }: RowActionsProps) {
  const { t } = useTranslation();
  const actions = useUploadActions();
  return (
    <>
      {(phase === "waiting" || phase === "sending") && (
        <IconButton
          size="sm"
          icon={Pause}
          label={t("row.pause", { name })}
          hint={t("row.pauseHint")}
          onClick={() => {
            actions.pause(id);
          }}
        />
      )}
      {phase === "paused" && (
        <IconButton
          size="sm"
          icon={Play}
          label={t("row.resume", { name })}
          hint={t("row.resumeHint")}
          onClick={() => {
            actions.resume(id);
          }}
        />
      )}
      {phase === "failed" && canRetry && (
        <IconButton
          size="sm"
          icon={RotateCw}
          label={t("row.retry", { name })}
          hint={t("row.retryHint")}
          onClick={() => {
            actions.retry(id);
          }}
        />
      )}
      {CAN_CANCEL.has(phase) && (
        <IconButton
          size="sm"
          tone="danger"
          icon={X}
          label={t("row.cancel", { name })}
          hint={t("row.cancelHint")}
          onClick={() => {
            actions.cancel(id);
          }}
        />
      )}
      {CAN_CLEAR.has(phase) && (
        <IconButton
          size="sm"
          icon={X}
          label={t("row.clear", { name })}
          hint={t("row.clearHint")}
          onClick={() => {
            actions.clear(id);
          }}
        />
      )}
    </>
  );
});
