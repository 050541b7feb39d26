import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { TextField } from "@/components/common/TextField";
import { checkCredentials, type CredentialsKind } from "./credentials";
import { FailureNote } from "./FailureNote";
import { PasswordField } from "./PasswordField";
import { useCountdown } from "./useCountdown";
import type { LogInAttempt } from "./useLogIn";
import styles from "./auth.module.css";

export interface CredentialsFormProps {
  readonly kind: CredentialsKind;
  readonly attempt: LogInAttempt;
  /** Kept by the page, so that changing between the tabs loses nothing. */
  readonly email: string;
  readonly onEmail: (email: string) => void;
}

export function CredentialsForm({ kind, attempt, email, onEmail }: CredentialsFormProps) {
  const { t } = useTranslation();
  const [password, setPassword] = useState("");
  const emailInput = useRef<HTMLInputElement>(null);
  const passwordInput = useRef<HTMLInputElement>(null);
  const { failure } = attempt;
  const problems = failure?.kind === "fields" ? failure.problems : null;
  const isLimited = failure?.kind === "rateLimited" || failure?.kind === "busy";
  const secondsLeft = useCountdown(isLimited ? failure.until : null);

  useEffect(() => {
    if (failure?.kind === "fields") {
      (failure.problems.email === null ? passwordInput : emailInput).current?.focus();
    } else if (failure?.kind === "wrong") passwordInput.current?.select();
  }, [failure]);

  return (
    <form
      className={styles["form"]}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        if (attempt.isBusy || secondsLeft > 0) return;
        const found = checkCredentials(kind, email, password);
        if (found.email !== null || found.password !== null) attempt.refuse(found);
        else void attempt.byPassword(kind, email, password);
      }}
    >
      <FailureNote failure={failure} secondsLeft={secondsLeft} />
      <TextField
        ref={emailInput}
        label={t("auth.email")}
        type="email"
        name="email"
        required
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        inputMode="email"
        placeholder={t("auth.emailPlaceholder")}
        value={email}
        error={problems?.email ? t(`auth.${problems.email}`) : null}
        onChange={(event) => {
          onEmail(event.target.value);
        }}
      />
      <PasswordField
        ref={passwordInput}
        label={kind === "register" ? t("auth.newPassword") : t("auth.password")}
        autoComplete={kind === "register" ? "new-password" : "current-password"}
        hint={kind === "register" ? t("auth.passwordHint") : undefined}
        value={password}
        error={problems?.password ? t(`auth.${problems.password}`) : null}
        onChange={setPassword}
      />
      <Button
        type="submit"
        variant="primary"
        isBlock
        isLoading={attempt.isBusy}
        aria-disabled={secondsLeft > 0 || undefined}
        className={styles["submit"]}
      >
        {kind === "register" ? t("auth.submitRegister") : t("auth.submitLogIn")}
      </Button>
    </form>
  );
}
