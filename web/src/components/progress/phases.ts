/** How the phases of an upload are shown. */
import type { Tone } from "@/components/common/Badge";
import {
  Ban,
  CircleAlert,
  CircleCheck,
  CirclePause,
  CircleX,
  Clock,
  Copy,
  FileQuestionMark,
  Hourglass,
  Upload,
  type LucideIcon,
} from "@/design/icons";
import type { UploadItem, UploadPhase, UploadSummary } from "@/stores/uploadTypes";

export const PHASE_LOOK: Readonly<
  Record<UploadPhase, { readonly tone: Tone; readonly icon: LucideIcon }>
> = {
  waiting: { tone: "neutral", icon: Clock },
  sending: { tone: "accent", icon: Upload },
  paused: { tone: "warning", icon: CirclePause },
  "needs-file": { tone: "warning", icon: FileQuestionMark },
  processing: { tone: "info", icon: Hourglass },
  completed: { tone: "success", icon: CircleCheck },
  failed: { tone: "danger", icon: CircleAlert },
  cancelled: { tone: "neutral", icon: Ban },
  rejected: { tone: "danger", icon: CircleX },
  duplicate: { tone: "neutral", icon: Copy },
};

/** A share below this is shown until the server has said that it has all of it. */
const NEARLY = 0.99;

/** Share of a file that has arrived, from 0 to 1. */
export function shareOf(item: UploadItem): number {
  if (item.phase === "processing" || item.phase === "completed") return 1;
  if (item.size === 0) return 0;
  return Math.min(NEARLY, item.bytesSent / item.size);
}

interface Measured {
  readonly bytesPerSecond: number | null;
}

/** Whether there is a speed to show: "0 B/s" would read as a meter that does not work. */
export function isMoving<Subject extends Measured>(
  subject: Subject,
): subject is Subject & { readonly bytesPerSecond: number } {
  return subject.bytesPerSecond !== null && subject.bytesPerSecond >= 1;
}

/** Number of uploads that can still change by themselves or by a choice of files. */
export function openCount(summary: UploadSummary): number {
  return (
    summary.waiting + summary.uploading + summary.paused + summary.processing + summary.needsFile
  );
}

/** Share of all bytes that have arrived, from 0 to 1; 1 only when nothing is to be sent any more. */
export function shareOfAll(summary: UploadSummary): number {
  const isSent = openCount(summary) === summary.processing;
  if (isSent) return 1;
  return summary.bytesTotal === 0 ? 0 : Math.min(NEARLY, summary.bytesSent / summary.bytesTotal);
}
