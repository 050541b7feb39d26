import { useTranslation } from "react-i18next";
import { Info, WifiOff } from "@/design/icons";
import { useUploadState } from "@/hooks/useUpload";
import { openCount } from "@/components/progress/phases";
import { classes } from "@/lib/classes";
import styles from "./ConnectionHint.module.css";

/** Says when states do not come at once, while there are uploads that wait for some. */
export function ConnectionHint() {
  const { t } = useTranslation();
  const isOnline = useUploadState((state) => state.isOnline);
  const live = useUploadState((state) => state.live);
  const isNeeded = useUploadState((state) => openCount(state.summary) > 0);
  const kind = !isOnline ? "noNetwork" : live === "offline" || live === "polling" ? live : null;
  if (kind === null || !isNeeded) return null;
  const isCut = kind !== "polling";
  const Icon = isCut ? WifiOff : Info;
  return (
    <p className={classes(styles["hint"], isCut && styles["cut"])}>
      <Icon aria-hidden size={14} />
      {t(`live.${kind}`)}
    </p>
  );
}
