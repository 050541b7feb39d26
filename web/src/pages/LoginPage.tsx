import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { Tabs } from "@/components/common/Tabs";
import styles from "@/components/auth/auth.module.css";
import type { CredentialsKind } from "@/components/auth/credentials";
import { CredentialsForm } from "@/components/auth/CredentialsForm";
import { FailureNote } from "@/components/auth/FailureNote";
import type { SessionEnd } from "@/components/auth/session";
import { useLogIn } from "@/components/auth/useLogIn";
import { Info, LoaderCircle } from "@/design/icons";

export interface LoginPageProps {
  /** Of a one-time link, used at once; null without one. */
  readonly link: string | null;
  /** How a session has ended while the page was open; null if there was none. */
  readonly end: SessionEnd | null;
  readonly onBusy: (isBusy: boolean) => void;
}

const END_TEXTS = {
  ended: "auth.ended",
  left: "auth.loggedOut",
  unreached: "auth.logOutFailed",
} as const;

/** Log in or register. Stands in place of the page that needs a session, under its address. */
export function LoginPage({ link, end, onBusy }: LoginPageProps) {
  const { t } = useTranslation();
  const [kind, setKind] = useState<CredentialsKind>("logIn");
  const [email, setEmail] = useState("");
  const attempt = useLogIn(onBusy);
  const hasUsedLink = useRef(false);
  const { byLink, failure } = attempt;

  useEffect(() => {
    // Once, although effects run twice in development: the link works once.
    if (link === null || hasUsedLink.current) return;
    hasUsedLink.current = true;
    void byLink(link);
  }, [link, byLink]);

  const isByLink = link !== null && failure === null;
  const isDisabled = failure?.kind === "disabled";
  return (
    <main className={styles["page"]}>
      <div className={styles["brand"]}>
        <img src="/icon.svg" alt="" width={44} height={44} />
        <span>Sluice</span>
      </div>
      <div className={styles["card"]}>
        {isByLink ? (
          <div className={styles["link"]} role="status">
            <LoaderCircle aria-hidden size={28} className={styles["spinner"]} />
            <h1>{t("auth.linkTitle")}</h1>
            <p>{t("auth.linkText")}</p>
          </div>
        ) : (
          <>
            <div className={styles["intro"]}>
              <h1>{t("auth.title")}</h1>
              <p>{t("auth.subtitle")}</p>
            </div>
            {end !== null && failure === null && (
              <div className={styles["ended"]} role="status">
                <Info aria-hidden size={18} />
                <p>{t(END_TEXTS[end])}</p>
              </div>
            )}
            {isDisabled ? (
              <FailureNote failure={failure} secondsLeft={0} />
            ) : (
              <Tabs
                label={t("auth.tabs")}
                selected={kind}
                tabs={[
                  { id: "logIn", label: t("auth.logIn") },
                  { id: "register", label: t("auth.register") },
                ]}
                panelClassName={styles["panel"]}
                onSelect={(selected) => {
                  setKind(selected);
                  // That a link has ended is worth knowing on both tabs.
                  if (failure?.kind !== "linkEnded" && failure?.kind !== "rateLimited")
                    attempt.forget();
                }}
              >
                <CredentialsForm
                  key={kind}
                  kind={kind}
                  attempt={attempt}
                  email={email}
                  onEmail={setEmail}
                />
              </Tabs>
            )}
            {link !== null && failure?.kind === "network" && (
              <Button isBlock isLoading={attempt.isBusy} onClick={() => void byLink(link)}>
                {t("auth.linkRetry")}
              </Button>
            )}
          </>
        )}
      </div>
    </main>
  );
}
