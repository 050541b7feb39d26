import { memo, useState } from "react";
import { FileImage, FileQuestionMark, ImageOff } from "@/design/icons";
import { classes } from "@/lib/classes";
import type { UploadPhase } from "@/stores/uploadTypes";
import styles from "./Thumbnail.module.css";

export interface ThumbnailProps {
  readonly url: string | null;
  readonly phase: UploadPhase;
}

/** A small picture of the file, or an icon in its place. Decorative: the name stands beside it. */
export const Thumbnail = memo(function Thumbnail({ url, phase }: ThumbnailProps) {
  const [failedUrl, setFailedUrl] = useState<string | null>(null);
  const isFaint = phase === "cancelled" || phase === "duplicate";
  const Icon =
    phase === "needs-file"
      ? FileQuestionMark
      : phase === "failed" || phase === "rejected"
        ? ImageOff
        : FileImage;
  return (
    <span className={classes(styles["thumbnail"], isFaint && styles["faint"])}>
      {url !== null && url !== failedUrl ? (
        <img
          src={url}
          alt=""
          loading="lazy"
          decoding="async"
          draggable={false}
          onError={() => {
            setFailedUrl(url);
          }}
        />
      ) : (
        <Icon aria-hidden size={20} strokeWidth={1.75} />
      )}
    </span>
  );
});
