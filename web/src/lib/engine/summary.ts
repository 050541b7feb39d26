/** Sums over all items, and how one item changes them. Pure. */
import type { UploadItem, UploadPhase, UploadSummary } from "@/stores/uploadTypes";

/** Members that follow from the items; the others are measured. */
export type Sums = Omit<UploadSummary, "bytesPerSecond" | "secondsLeft">;

type Count = Exclude<keyof Sums, "total" | "bytesTotal" | "bytesSent">;

const COUNTED_AS: Readonly<Record<UploadPhase, Count | null>> = {
  waiting: "waiting",
  sending: "uploading",
  paused: "paused",
  "needs-file": "needsFile",
  processing: "processing",
  completed: "completed",
  failed: "failed",
  rejected: "failed",
  cancelled: "cancelled",
  duplicate: null,
};

const WITHOUT_BYTES: ReadonlySet<UploadPhase> = new Set(["cancelled", "rejected", "duplicate"]);

export const EMPTY_SUMS: Sums = {
  total: 0,
  waiting: 0,
  uploading: 0,
  paused: 0,
  processing: 0,
  completed: 0,
  failed: 0,
  cancelled: 0,
  needsFile: 0,
  bytesTotal: 0,
  bytesSent: 0,
};

/** Sums that may be changed while events are applied. */
export type MutableSums = { -readonly [Name in keyof Sums]: Sums[Name] };

/** @param sign - 1 to count the item, -1 to take it out. */
export function count(sums: MutableSums, item: UploadItem, sign: 1 | -1): void {
  sums.total += sign;
  const member = COUNTED_AS[item.phase];
  if (member !== null) sums[member] += sign;
  if (WITHOUT_BYTES.has(item.phase)) return;
  sums.bytesTotal += sign * item.size;
  sums.bytesSent += sign * item.bytesSent;
}

/** The sums as they have to be, from nothing. */
export function recount(items: Iterable<UploadItem>): Sums {
  const sums = { ...EMPTY_SUMS };
  for (const item of items) count(sums, item, 1);
  return sums;
}

/**
 * Percent of a file for its bar. 100 only when the store has answered: what was handed over to the
 * network runs ahead of what the store has.
 */
export function shownPercent(item: Pick<UploadItem, "phase" | "bytesSent" | "size">): number {
  if (item.phase === "processing" || item.phase === "completed") return 100;
  if (item.size <= 0) return 0;
  return Math.min(99, Math.floor((100 * item.bytesSent) / item.size));
}

/** Percent of all files, by bytes; 100 only when all of them have arrived. */
export function batchPercent(summary: UploadSummary): number {
  if (summary.bytesTotal <= 0) return 0;
  const percent = Math.floor((100 * summary.bytesSent) / summary.bytesTotal);
  const isOpen = summary.waiting + summary.uploading + summary.paused + summary.needsFile > 0;
  return isOpen ? Math.min(99, percent) : Math.min(100, percent);
}
