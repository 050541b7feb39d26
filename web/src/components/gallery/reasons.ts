/** Reasons of failures in the words of people. */
import type { TFunction } from "i18next";
import { ApiError, NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";

/** Return the text of a reason; that of the server where there is no translation. */
export function reasonText(t: TFunction, reason: string | null, detail: string | null): string {
  const fallback = detail ?? t("gallery.unknownReason");
  return reason === null ? fallback : t(`reasons.${reason}`, { defaultValue: fallback });
}

/** Return what is wrong with a call, and what to do. */
export function errorText(t: TFunction, error: unknown): string {
  if (error instanceof NetworkError) return t("gallery.error.network");
  if (error instanceof SessionEnded) return t("gallery.error.session");
  if (error instanceof ApiError) return reasonText(t, error.reason, error.detail);
  return t("gallery.error.unknown");
}
