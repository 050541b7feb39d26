/** Failures of photos and of calls in the words of people. */
import type { TFunction } from "i18next";
import { ApiError, NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";
import { reasonText } from "@/lib/i18n/reasons";

/** Return why a photo failed, or null for one that has no reason. */
export function photoReason(
  t: TFunction,
  photo: { readonly reason: string | null; readonly detail: string | null },
): string | null {
  return photo.reason === null
    ? null
    : reasonText(t, { reason: photo.reason, detail: photo.detail });
}

/** Return what is wrong with a call, and what to do. */
export function errorText(t: TFunction, error: unknown): string {
  if (error instanceof NetworkError) return t("gallery.error.network");
  if (error instanceof SessionEnded) return t("gallery.error.session");
  if (error instanceof ApiError) return reasonText(t, error);
  return t("gallery.error.unknown");
}
