/** Reasons of failures in words that a person understands. */
import type { TFunction } from "i18next";
import en from "./locales/en.json";

export type Reason = keyof typeof en.reasons;

export function isKnownReason(reason: string): reason is Reason {
  return Object.hasOwn(en.reasons, reason);
}

/** The sentence of a reason; the server's own detail, in English, if there is none. */
export function reasonText(
  t: TFunction,
  failure: { readonly reason: string; readonly detail?: string | null },
): string {
  if (isKnownReason(failure.reason)) return t(`reasons.${failure.reason}`);
  return failure.detail ?? t("reasons.UNKNOWN");
}
