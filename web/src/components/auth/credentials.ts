/** What is wrong with an email address and a password, before they are sent. Pure. */

export type CredentialsKind = "logIn" | "register";

export type EmailProblem = "emailMissing" | "emailInvalid";
export type PasswordProblem = "passwordMissing" | "passwordShort" | "passwordLong";

export interface FieldProblems {
  readonly email: EmailProblem | null;
  readonly password: PasswordProblem | null;
}

/** Of the gateway: characters at least, and bytes of UTF-8 at most. */
export const LEAST_PASSWORD_CHARACTERS = 8;
const MOST_PASSWORD_BYTES = 1024;

/** Return what is wrong. The length of a password counts where it is chosen: old ones are sent. */
export function checkCredentials(
  kind: CredentialsKind,
  email: string,
  password: string,
): FieldProblems {
  return { email: emailProblem(email.trim()), password: passwordProblem(kind, password) };
}

function emailProblem(email: string): EmailProblem | null {
  if (email === "") return "emailMissing";
  return /^[^\s@]+@[^\s@]+$/u.test(email) ? null : "emailInvalid";
}

function passwordProblem(kind: CredentialsKind, password: string): PasswordProblem | null {
  if (password === "") return "passwordMissing";
  if (kind === "register" && Array.from(password).length < LEAST_PASSWORD_CHARACTERS)
    return "passwordShort";
  return new TextEncoder().encode(password).length > MOST_PASSWORD_BYTES ? "passwordLong" : null;
}
