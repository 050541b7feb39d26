import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { openCount } from "@/components/progress/phases";
import { ListX } from "@/design/icons";
import { useUploadActions, useUploadState } from "@/hooks/useUpload";
import type { UploadState } from "@/stores/uploadTypes";

/** Whether there is an upload that has ended. */
export const canClear = ({ summary }: Pick<UploadState, "summary">): boolean =>
  summary.total > openCount(summary);

/** Removes what has ended from the list; not there without any. */
export function ClearButton({ className }: { readonly className?: string | undefined }) {
  const { t } = useTranslation();
  const actions = useUploadActions();
  if (!useUploadState(canClear)) return null;
  return (
    <Button
      size="sm"
      variant="ghost"
      icon={ListX}
      className={className}
      onClick={() => {
        actions.clearEnded();
      }}
    >
      {t("panel.clear")}
    </Button>
  );
}
