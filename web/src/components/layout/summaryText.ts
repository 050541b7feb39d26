/** The state of all uploads in a few words. */
import type { TFunction } from "i18next";
import type { Tone } from "@/components/common/Badge";
import { openCount, shareOfAll } from "@/components/progress/phases";
import type { Format } from "@/lib/i18n/format";
import type { UploadSummary } from "@/stores/uploadTypes";

/** How a set of uploads ended: "98 photos uploaded, 2 failed". */
export function resultText(
  t: TFunction,
  counts: { readonly completed: number; readonly failed: number; readonly cancelled: number },
): string {
  const parts = [
    (counts.completed > 0 || counts.failed + counts.cancelled === 0) &&
      t("panel.uploaded", { count: counts.completed }),
    counts.failed > 0 && t("panel.failedCount", { count: counts.failed }),
    counts.cancelled > 0 && t("panel.cancelledCount", { count: counts.cancelled }),
  ];
  return parts.filter((part) => part !== false).join(", ");
}

/** What goes on: "53 uploading (8%)". */
export function summaryText(
  t: TFunction,
  format: Format,
  summary: UploadSummary,
  isPaused: boolean,
): string {
  const percent = format.percent(shareOfAll(summary));
  const toSend = summary.waiting + summary.uploading;
  if (summary.total === 0) return t("panel.idle");
  if (toSend > 0 && !isPaused) {
    // Before the first is sent, those that wait are what goes on.
    return t("panel.uploading", { count: summary.uploading || summary.waiting, percent });
  }
  if (toSend + summary.paused > 0) {
    return t("panel.paused", { count: toSend + summary.paused, percent });
  }
  if (summary.needsFile > 0) return t("panel.needsFile", { count: summary.needsFile });
  if (summary.processing > 0) return t("panel.processing", { count: summary.processing });
  return resultText(t, summary);
}

/** The colour of all uploads together. */
export function summaryTone(summary: UploadSummary, isPaused: boolean): Tone {
  const toSend = summary.waiting + summary.uploading;
  if (openCount(summary) === 0) {
    if (summary.failed > 0) return summary.completed > 0 ? "warning" : "danger";
    return summary.completed > 0 ? "success" : "neutral";
  }
  if (toSend > 0) return isPaused ? "warning" : "accent";
  return summary.paused + summary.needsFile > 0 ? "warning" : "info";
}
