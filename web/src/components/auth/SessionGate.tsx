import { useEffect, useRef, useState, type ReactNode } from "react";
import { useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { LoadingShell } from "@/components/layout/LoadingShell";
import { SessionEnded } from "@/lib/api/session";
import { LoginPage } from "@/pages/LoginPage";
import { toaster } from "@/stores/toastStore";
import { LeaveProvider, useSession, useSessionState, type SessionEnd } from "./session";
import { Unreachable } from "./Unreachable";

export interface SessionGateProps {
  /** Of `takeLoginLink`. It comes before a session that the browser may have. */
  readonly link: string | null;
  readonly children: ReactNode;
}

/** The page for those who are logged in, the log-in for others, under the same address. */
export function SessionGate({ link, children }: SessionGateProps) {
  const session = useSession();
  const state = useSessionState();
  const { t } = useTranslation();
  const client = useQueryClient();
  const [isLoggingIn, setIsLoggingIn] = useState(link !== null);
  const [end, setEnd] = useState<SessionEnd | null>(null);
  const [isUnreachable, setIsUnreachable] = useState(false);
  const [tries, setTries] = useState(0);
  const [hasLinkFailed, setHasLinkFailed] = useState(false);
  const hadSession = useRef(false);

  useEffect(() => {
    if (state !== "unknown" || isLoggingIn) return;
    session.token().catch((error: unknown) => {
      // Whether somebody is logged in is in the state; anything else means: not known yet.
      if (!(error instanceof SessionEnded)) setIsUnreachable(true);
    });
  }, [session, state, isLoggingIn, tries]);
  useEffect(() => {
    if (state === "logged-in") hadSession.current = true;
    if (state !== "logged-out" || !hadSession.current || isLoggingIn) return;
    // The next person at this browser must not see the photos of this one.
    client.clear();
    setEnd((known) => known ?? "ended");
  }, [state, client, isLoggingIn]);

  const isIn = state === "logged-in" || state === "keyless";
  useEffect(() => {
    // The link was of no use, and of no need: say it, but do not stand in the way.
    if (!hasLinkFailed || !isIn) return;
    toaster.show({ tone: "info", title: t("auth.linkEndedTitle"), text: t("auth.linkNotNeeded") });
  }, [hasLinkFailed, isIn, t]);

  const onBusy = (isBusy: boolean) => {
    setIsLoggingIn(isBusy);
    if (isBusy) setEnd(null);
    if (!isBusy && link !== null) setHasLinkFailed(session.getState() !== "logged-in");
  };
  if (isIn && !isLoggingIn) return <LeaveProvider value={setEnd}>{children}</LeaveProvider>;
  if (state === "logged-out" || isLoggingIn || link !== null) {
    return <LoginPage link={link} end={end} onBusy={onBusy} />;
  }
  if (!isUnreachable) return <LoadingShell />;
  return (
    <Unreachable
      onRetry={() => {
        setIsUnreachable(false);
        setTries(tries + 1);
      }}
    />
  );
}
