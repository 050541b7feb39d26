import { useTranslation } from "react-i18next";
import { CircleAlert, Clock } from "@/design/icons";
import { classes } from "@/lib/classes";
import { useFormat } from "@/lib/i18n/format";
import type { LogInFailure } from "./useLogIn";
import styles from "./auth.module.css";

export interface FailureNoteProps {
  readonly failure: LogInFailure | null;
  /** Until the next attempt; 0 if there is nothing to wait for. */
  readonly secondsLeft: number;
}

/** Why the attempt failed, and what to do. Fields say by themselves what is wrong with them. */
export function FailureNote({ failure, secondsLeft }: FailureNoteProps) {
  const { t } = useTranslation();
  const format = useFormat();
  const isLimited = failure?.kind === "rateLimited";
  const text = (() => {
    if (failure === null) return null;
    switch (failure.kind) {
      case "fields":
        return null;
      case "rateLimited":
        return secondsLeft > 0
          ? t("auth.rateLimited", { time: format.duration(secondsLeft) })
          : t("auth.rateOver");
      case "disabled":
        return t("auth.disabledText");
      case "linkEnded":
        return t("auth.linkEndedText");
      default:
        return t(`auth.${failure.kind}`);
    }
  })();
  const title =
    failure?.kind === "linkEnded"
      ? t("auth.linkEndedTitle")
      : failure?.kind === "disabled"
        ? t("auth.disabledTitle")
        : null;
  const Icon = isLimited ? Clock : CircleAlert;
  return (
    // Said once: the seconds would be read out one after the other.
    <div
      role="alert"
      aria-live={isLimited && secondsLeft > 0 ? "off" : undefined}
      className={styles["alert"]}
    >
      {text !== null && (
        <div className={classes(styles["note"], isLimited && styles["waiting"])}>
          <Icon aria-hidden size={18} />
          <div>
            {title !== null && <p className={styles["noteTitle"]}>{title}</p>}
            <p>{text}</p>
          </div>
        </div>
      )}
    </div>
  );
}
