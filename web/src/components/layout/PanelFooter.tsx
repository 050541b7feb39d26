import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useShallow } from "zustand/react/shallow";
import { Button } from "@/components/common/Button";
import { Dialog } from "@/components/common/Dialog";
import { RotateCw, X } from "@/design/icons";
import { useUploadActions, useUploadState } from "@/hooks/useUpload";
import { canClear, ClearButton } from "@/components/upload/ClearButton";
import { openCount } from "@/components/progress/phases";
import type { UploadItem } from "@/stores/uploadTypes";
import styles from "./UploadProgressPanel.module.css";

function canRetrySome(items: Iterable<UploadItem>): boolean {
  for (const { phase, failure } of items) {
    if (phase === "failed" && failure?.canRetry === true) return true;
  }
  return false;
}

/** What can be done with all uploads at once. */
export function PanelFooter() {
  const { t } = useTranslation();
  const actions = useUploadActions();
  const [isAsking, setIsAsking] = useState(false);
  const [canCancel, canRetry, hasEnded] = useUploadState(
    useShallow(({ summary, items }) => [
      openCount(summary) > summary.processing,
      summary.failed > 0 && canRetrySome(items.values()),
      canClear({ summary }),
    ]),
  );
  if (!canCancel && !canRetry && !hasEnded) return null;
  return (
    <footer className={styles["footer"]}>
      {canCancel && (
        <Button
          size="sm"
          variant="ghost"
          icon={X}
          onClick={() => {
            setIsAsking(true);
          }}
        >
          {t("panel.cancelAll")}
        </Button>
      )}
      {canRetry && (
        <Button
          size="sm"
          variant="ghost"
          icon={RotateCw}
          onClick={() => {
            actions.retryAll();
          }}
        >
          {t("panel.retryFailed")}
        </Button>
      )}
      <ClearButton className={styles["last"]} />
      <Dialog
        isOpen={isAsking && canCancel}
        size="sm"
        title={t("panel.cancelTitle")}
        description={t("panel.cancelText")}
        onClose={() => {
          setIsAsking(false);
        }}
        footer={
          <>
            <Button
              onClick={() => {
                setIsAsking(false);
              }}
            >
              {t("panel.keep")}
            </Button>
            <Button
              variant="danger"
              onClick={() => {
                setIsAsking(false);
                actions.cancelAll();
              }}
            >
              {t("panel.cancelConfirm")}
            </Button>
          </>
        }
      />
    </footer>
  );
}
