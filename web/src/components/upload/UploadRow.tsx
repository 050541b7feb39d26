import { memo, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { FileName } from "@/components/common/FileName";
import { JobStatusBadge } from "@/components/progress/JobStatusBadge";
import { isMoving, PHASE_LOOK, shareOf } from "@/components/progress/phases";
import { ProgressBar } from "@/components/progress/ProgressBar";
import { useThumbnail, useUploadItem } from "@/hooks/useUpload";
import { classes } from "@/lib/classes";
import { useFormat, type Format } from "@/lib/i18n/format";
import { reasonText } from "@/lib/i18n/reasons";
import type { UploadItem } from "@/stores/uploadTypes";
import { RowActions } from "./RowActions";
import { Thumbnail } from "./Thumbnail";
import styles from "./UploadRow.module.css";

export interface UploadRowProps {
  readonly id: string;
  /** Before the thumbnail, such as a handle to drag. Has to be stable for rows to stay drawn. */
  readonly leading?: ReactNode;
}

/** One upload. Subscribes to its own item, so that it is drawn again when that changes only. */
export const UploadRow = memo(function UploadRow({ id, leading }: UploadRowProps) {
  const { t } = useTranslation();
  const format = useFormat();
  const item = useUploadItem(id);
  const thumbnailUrl = useThumbnail(id);
  if (!item) return null;
  const { name, phase, failure } = item;
  const share = shareOf(item);
  const percent = format.percent(share);
  const problem =
    failure !== null
      ? reasonText(t, failure)
      : phase === "needs-file"
        ? t("chooseAgain.waiting")
        : phase === "duplicate"
          ? t("row.duplicate")
          : null;
  const hasBar = phase !== "rejected" && phase !== "duplicate" && phase !== "cancelled";
  return (
    <div className={styles["row"]} data-phase={phase}>
      {leading}
      <Thumbnail url={thumbnailUrl} phase={phase} />
      <div className={styles["body"]}>
        <div className={styles["line"]}>
          {item.photoId !== null && phase === "completed" ? (
            <Link
              href={`/photos/${item.photoId}`}
              className={classes(styles["name"], styles["link"])}
            >
              <FileName name={name} />
            </Link>
          ) : (
            <FileName name={name} className={styles["name"]} />
          )}
          <span className={styles["size"]}>{format.bytes(item.size)}</span>
        </div>
        {hasBar && (
          <ProgressBar
            share={share}
            tone={PHASE_LOOK[phase].tone}
            label={t("row.progress", { name })}
            valueText={t("row.progressText", { percent, state: t(`phase.${phase}`) })}
          />
        )}
        <div className={styles["line"]}>
          <JobStatusBadge phase={phase} />
          {problem === null && (
            <span className={styles["detail"]}>
              {hasDetail(item) ? (
                <Detail item={item} format={format} />
              ) : (
                <span className={styles["narrowSize"]}>{format.bytes(item.size)}</span>
              )}
            </span>
          )}
        </div>
        {problem !== null && (
          <p className={classes(styles["problem"], failure !== null && styles["failure"])}>
            {problem}
          </p>
        )}
      </div>
      <div className={styles["actions"]}>
        <RowActions id={id} name={name} phase={phase} canRetry={failure?.canRetry ?? false} />
      </div>
    </div>
  );
});

const hasDetail = ({ phase }: UploadItem) => phase === "sending" || phase === "paused";

function Detail({ item, format }: { readonly item: UploadItem; readonly format: Format }) {
  return (
    <>
      {format.percent(shareOf(item))}
      {item.phase === "sending" && isMoving(item) && (
        <span className={styles["speed"]}> · {format.speed(item.bytesPerSecond)}</span>
      )}
    </>
  );
}
