import { useTranslation } from "react-i18next";
import { Skeleton } from "@/components/common/Skeleton";
import type { PhotoSummaryView, PhotoView } from "@/lib/api/schema";
import { useFormat } from "@/lib/i18n/format";
import { regionalLocale } from "./days";
import { exifLines, formatTakenAt, parseTakenAt, placeOf } from "./exif";
import { PlaceSection } from "./PlaceSection";
import { TagSection } from "./TagSection";
import styles from "./PhotoDetails.module.css";

export interface PhotoDetailsProps {
  readonly photo: PhotoSummaryView;
  /** With EXIF and place; null while it is on its way. */
  readonly detail: PhotoView | null;
}

/** What is known of a photo: tags, camera, file, and its place on request. */
export function PhotoDetails({ photo, detail }: PhotoDetailsProps) {
  const { t, i18n } = useTranslation();
  const format = useFormat();
  const exif = detail?.exif ?? null;
  const taken = parseTakenAt(exif?.["taken_at"]);
  const place = placeOf(detail?.location ?? null);
  const lines = exifLines(
    exif,
    {
      flashFired: t("photo.flashFired"),
      flashNotFired: t("photo.flashNotFired"),
      equivalent: (value) => t("photo.equivalent", { value }),
    },
    i18n.language,
  );
  const camera = lines.find((line) => line.key === "camera");
  const dial = lines.filter((line) =>
    ["exposure", "aperture", "iso", "focalLength"].includes(line.key),
  );
  const others = lines.filter((line) => !dial.includes(line) && line !== camera);
  return (
    <div className={styles["details"]}>
      <TagSection photoId={photo.photoId} tags={detail?.tags ?? photo.tags} />
      <section className={styles["section"]}>
        <h3 className={styles["heading"]}>{t("photo.camera")}</h3>
        {detail === null ? (
          <div aria-busy className={styles["busy"]}>
            <Skeleton width="60%" height="1rem" />
            <Skeleton width="85%" height="1rem" />
          </div>
        ) : (
          <>
            {camera && <p className={styles["camera"]}>{camera.text}</p>}
            {dial.length > 0 && (
              <dl className={styles["dial"]}>
                {dial.map((line) => (
                  <div key={line.key}>
                    <dt>{t(`photo.exif.${line.key}`)}</dt>
                    <dd>{line.text}</dd>
                  </div>
                ))}
              </dl>
            )}
            {others.length > 0 && (
              <dl className={styles["lines"]}>
                {others.map((line) => (
                  <Line key={line.key} label={t(`photo.exif.${line.key}`)}>
                    {line.text}
                  </Line>
                ))}
              </dl>
            )}
            {lines.length === 0 && <p className={styles["muted"]}>{t("photo.noExif")}</p>}
          </>
        )}
      </section>
      {place !== null && <PlaceSection key={photo.photoId} place={place} />}
      <section className={styles["section"]}>
        <h3 className={styles["heading"]}>{t("photo.file")}</h3>
        <dl className={styles["lines"]}>
          <Line label={t("photo.name")}>
            <bdi className={styles["filename"]}>{photo.filename}</bdi>
          </Line>
          {taken !== null && (
            <Line label={t("photo.takenAt")}>
              {formatTakenAt(taken, regionalLocale(i18n.language))}
              {taken.zone === null && (
                <span className={styles["note"]}>{t("photo.takenUnknownZone")}</span>
              )}
            </Line>
          )}
          <Line label={t("photo.uploadedAt")}>{format.dateTime(photo.createdAt)}</Line>
          {photo.width !== null && photo.height !== null && (
            <Line label={t("photo.dimensions")}>
              {format.number(photo.width)} × {format.number(photo.height)}
              <span className={styles["note"]}>
                {t("photo.megapixels", {
                  value: megapixels(photo.width * photo.height, i18n.language),
                })}
              </span>
            </Line>
          )}
          <Line label={t("photo.size")}>{format.bytes(photo.bytes)}</Line>
          <Line label={t("photo.type")}>{typeName(photo.mimeType)}</Line>
        </dl>
      </section>
    </div>
  );
}

function Line({ label, children }: { readonly label: string; readonly children: React.ReactNode }) {
  return (
    <div className={styles["line"]}>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function megapixels(pixels: number, locale: string): string {
  return new Intl.NumberFormat(locale, { maximumSignificantDigits: 2 }).format(pixels / 1e6);
}

/** `JPEG` of a picture; of anything else its type as it is. */
function typeName(mimeType: string): string {
  return mimeType.startsWith("image/") ? mimeType.slice("image/".length).toUpperCase() : mimeType;
}
