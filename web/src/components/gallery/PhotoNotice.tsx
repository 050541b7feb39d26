import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";
import { Button } from "@/components/common/Button";
import { CircleAlert, ImageOff, LoaderCircle, RotateCw, type LucideIcon } from "@/design/icons";
import { classes } from "@/lib/classes";
import type { PhotoSummaryView } from "@/lib/api/schema";
import { newKey } from "@/lib/api/upload";
import { toaster } from "@/stores/toastStore";
import { UPLOAD_PATH } from "./paths";
import { isUnderWay } from "./queries";
import { errorText, photoReason } from "./reasons";
import { useGalleryServices } from "./services";
import styles from "./PhotoNotice.module.css";

/** Failures of photos whose bytes never came: there is nothing to process again. */
const NEVER_ARRIVED: ReadonlySet<string> = new Set([
  "NOT_ARRIVED",
  "UPLOAD_EXPIRED",
  "OBJECT_MISSING",
]);

/** In place of a photo that cannot be shown: why, and what can be done. */
export function PhotoNotice({ photo }: { readonly photo: PhotoSummaryView }) {
  const { t } = useTranslation();
  const { uploads } = useGalleryServices();
  const [, navigate] = useLocation();
  const client = useQueryClient();
  const reprocess = useMutation({
    mutationFn: () => uploads.reprocess(photo.photoId, newKey()),
    onSuccess: async () => {
      toaster.show({ tone: "info", title: t("photo.reprocessing") });
      await Promise.all(
        ["photos", "photo"].map((key) => client.invalidateQueries({ queryKey: [key] })),
      );
    },
    onError: (error) => {
      toaster.show({ tone: "danger", title: errorText(t, error) });
    },
  });
  if (isUnderWay(photo.status)) {
    return (
      <Notice
        icon={LoaderCircle}
        isSpinning={photo.status === "PROCESSING"}
        title={t(`gallery.status.${photo.status}`)}
      >
        <p>{t("photo.pending")}</p>
      </Notice>
    );
  }
  const reason = photoReason(t, photo);
  if (photo.status !== "FAILED") {
    const title =
      photo.status === "CANCELLED" ? t("gallery.status.CANCELLED") : t("gallery.noPreview");
    return (
      <Notice icon={ImageOff} title={title}>
        {reason !== null && <p>{reason}</p>}
      </Notice>
    );
  }
  const isMissing = photo.reason !== null && NEVER_ARRIVED.has(photo.reason);
  return (
    <Notice icon={CircleAlert} isBad title={t("photo.failedTitle")}>
      <p>{reason ?? t("gallery.unknownReason")}</p>
      {isMissing ? (
        <>
          <p>{t("photo.notArrived")}</p>
          <Button
            onClick={() => {
              navigate(UPLOAD_PATH);
            }}
          >
            {t("photo.uploadAgain")}
          </Button>
        </>
      ) : (
        <Button
          icon={RotateCw}
          isLoading={reprocess.isPending}
          onClick={() => {
            reprocess.mutate();
          }}
        >
          {t("photo.reprocess")}
        </Button>
      )}
    </Notice>
  );
}

interface NoticeProps {
  readonly icon: LucideIcon;
  readonly title: string;
  readonly isSpinning?: boolean;
  readonly isBad?: boolean;
  readonly children?: React.ReactNode;
}

export function Notice({
  icon: Icon,
  title,
  isSpinning = false,
  isBad = false,
  children,
}: NoticeProps) {
  return (
    <div className={classes(styles["notice"], isBad && styles["bad"])} role="status">
      <span className={styles["icon"]}>
        <Icon
          aria-hidden
          size={28}
          strokeWidth={1.75}
          className={classes(isSpinning && styles["spinning"])}
        />
      </span>
      <h2 className={styles["title"]}>{title}</h2>
      {children}
    </div>
  );
}
