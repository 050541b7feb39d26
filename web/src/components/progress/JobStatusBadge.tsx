import { memo } from "react";
import { useTranslation } from "react-i18next";
import { Badge } from "@/components/common/Badge";
import type { UploadPhase } from "@/stores/uploadTypes";
import { PHASE_LOOK } from "./phases";

/** The state of an upload in a word. */
export const JobStatusBadge = memo(function JobStatusBadge({
  phase,
}: {
  readonly phase: UploadPhase;
}) {
  const { t } = useTranslation();
  const look = PHASE_LOOK[phase];
  return (
    <Badge tone={look.tone} icon={look.icon}>
      {t(`phase.${phase}`)}
    </Badge>
  );
});
