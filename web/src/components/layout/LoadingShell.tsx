import { useTranslation } from "react-i18next";
import { Shell } from "./Shell";

/** The shell, with a word for readers of screens. */
export function LoadingShell() {
  const { t } = useTranslation();
  return (
    <Shell>
      <span className="visually-hidden" role="status">
        {t("common.loading")}
      </span>
    </Shell>
  );
}
