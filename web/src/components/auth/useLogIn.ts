/** The attempts to log in, to register, and by a link; and what became of the last one. */
import { useState } from "react";
import { currentUser, logIn, logInByLink, register } from "@/lib/api/auth";
import { createApi } from "@/lib/api/client";
import { ApiError, NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";
import type { CredentialsKind, FieldProblems } from "./credentials";
import { useSession } from "./session";

/** Why an attempt failed. `until`: no further one before, in milliseconds since 1970. */
export type LogInFailure =
  | { readonly kind: "fields"; readonly problems: FieldProblems }
  | {
      readonly kind: "wrong" | "registerUnclear" | "network" | "disabled" | "linkEnded" | "unknown";
    }
  | { readonly kind: "busy" | "rateLimited"; readonly until: number };

export interface LogInAttempt {
  readonly isBusy: boolean;
  readonly failure: LogInFailure | null;
  readonly byPassword: (kind: CredentialsKind, email: string, password: string) => Promise<void>;
  readonly byLink: (link: string) => Promise<void>;
  readonly refuse: (problems: FieldProblems) => void;
  readonly forget: () => void;
}

/** @param onBusy - true while an attempt is under way: its session may still be an imitation. */
export function useLogIn(onBusy: (isBusy: boolean) => void): LogInAttempt {
  const session = useSession();
  const [isBusy, setIsBusy] = useState(false);
  const [failure, setFailure] = useState<LogInFailure | null>(null);

  const attempt = async (kind: CredentialsKind | "link", open: () => Promise<unknown>) => {
    setIsBusy(true);
    onBusy(true);
    try {
      await open();
      // The answer to the registration of a known address looks like any other; its tokens open
      // nothing. So the session counts once the gateway has accepted its token.
      if (kind === "register") await currentUser(createApi(session.baseUrl, session));
      setFailure(null);
    } catch (error) {
      if (session.getState() === "logged-in") session.end();
      setFailure(failureOf(kind, error, Date.now()));
    } finally {
      setIsBusy(false);
      onBusy(false);
    }
  };
  return {
    isBusy,
    failure,
    byPassword: (kind, email, password) => {
      const credentials = { email: email.trim(), password };
      return attempt(kind, () => (kind === "register" ? register : logIn)(session, credentials));
    },
    byLink: (link) => attempt("link", () => logInByLink(session, link)),
    refuse: (problems) => {
      setFailure({ kind: "fields", problems });
    },
    forget: () => {
      setFailure(null);
    },
  };
}

/** Return the failure of an error. @param now - milliseconds since 1970. */
export function failureOf(
  kind: CredentialsKind | "link",
  error: unknown,
  now: number,
): LogInFailure {
  if (error instanceof NetworkError) return { kind: "network" };
  if (error instanceof SessionEnded)
    return { kind: kind === "register" ? "registerUnclear" : "unknown" };
  if (!(error instanceof ApiError)) return { kind: "unknown" };
  const until = now + 1000 * Math.max(1, error.retryAfterSeconds ?? 1);
  switch (error.reason) {
    case "WRONG_CREDENTIALS":
      return { kind: "wrong" };
    case "RATE_LIMITED":
      return { kind: "rateLimited", until };
    case "LOGIN_BUSY":
      return { kind: "busy", until };
    case "BAD_EMAIL":
      return { kind: "fields", problems: { email: "emailInvalid", password: null } };
    case "BAD_PASSWORD":
      return { kind: "fields", problems: { email: null, password: "passwordShort" } };
    case "ACCOUNTS_DISABLED":
      return { kind: "disabled" };
    case "LINK_ENDED":
      return { kind: "linkEnded" };
    case "BAD_TOKEN":
    case "SESSION_ENDED":
      return { kind: kind === "register" ? "registerUnclear" : "unknown" };
    default:
      return { kind: error.isTemporary ? "network" : "unknown" };
  }
}
