import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { Copy, MapPin } from "@/design/icons";
import { useFormat } from "@/lib/i18n/format";
import { formatPlace, mapUrl, type Place } from "./exif";
import styles from "./PhotoDetails.module.css";

/** Where a photo was taken, shown only when the person asks: others may see the screen. */
export function PlaceSection({ place }: { readonly place: Place }) {
  const { t, i18n } = useTranslation();
  const format = useFormat();
  const [isShown, setIsShown] = useState(false);
  const [isCopied, setIsCopied] = useState(false);
  const written = formatPlace(place, i18n.language);
  return (
    <section className={styles["section"]}>
      <h3 className={styles["heading"]}>{t("photo.place")}</h3>
      {isShown ? (
        <div className={styles["place"]}>
          <p className={styles["coordinates"]}>{written}</p>
          {place.altitudeMetres !== null && (
            <p className={styles["muted"]}>
              {t("photo.altitude", { value: format.number(Math.round(place.altitudeMetres)) })}
            </p>
          )}
          <div className={styles["buttons"]}>
            <Button
              size="sm"
              icon={Copy}
              onClick={() => {
                navigator.clipboard.writeText(`${place.latitude}, ${place.longitude}`).then(
                  () => {
                    setIsCopied(true);
                  },
                  () => {
                    setIsCopied(false); // refused: the text above can be selected
                  },
                );
              }}
            >
              {isCopied ? t("photo.copied") : t("photo.copyPlace")}
            </Button>
            <a
              className={styles["map"]}
              href={mapUrl(place)}
              target="_blank"
              rel="noreferrer noopener"
            >
              {t("photo.openMap")}
            </a>
            <Button
              size="sm"
              variant="ghost"
              onClick={() => {
                setIsShown(false);
              }}
            >
              {t("photo.hidePlace")}
            </Button>
          </div>
        </div>
      ) : (
        <>
          <p className={styles["muted"]}>{t("photo.placeNote")}</p>
          <Button
            size="sm"
            icon={MapPin}
            onClick={() => {
              setIsShown(true);
            }}
          >
            {t("photo.showPlace")}
          </Button>
        </>
      )}
    </section>
  );
}
