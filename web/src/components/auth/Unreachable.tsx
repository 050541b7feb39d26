import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { EmptyState } from "@/components/common/EmptyState";
import { WifiOff } from "@/design/icons";
import styles from "./auth.module.css";

/** In place of a page that is not drawn before the gateway has said who is logged in. */
export function Unreachable({ onRetry }: { readonly onRetry: () => void }) {
  const { t } = useTranslation();
  return (
    <main className={styles["wait"]}>
      <div role="alert">
        <EmptyState
          icon={WifiOff}
          tone="danger"
          title={t("common.somethingFailed")}
          text={t("auth.network")}
          action={
            <Button variant="primary" onClick={onRetry}>
              {t("common.retry")}
            </Button>
          }
        />
      </div>
    </main>
  );
}
