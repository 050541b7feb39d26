/** What happens to uploads: the only way in which their state changes. */
import type {
  LiveTransport,
  UploadFailure,
  UploadItem,
  UploadLimits,
  UploadPhase,
  UploadStrategy,
} from "@/stores/uploadTypes";

export type UploadEvent =
  | { readonly type: "added"; readonly items: readonly UploadItem[] }
  | { readonly type: "removed"; readonly ids: readonly string[] }
  | { readonly type: "moved"; readonly id: string; readonly beforeId: string | null }
  /** Ignored unless the state machine allows it; `failure` belongs to those that have failed. */
  | {
      readonly type: "entered";
      readonly id: string;
      readonly phase: UploadPhase;
      readonly failure?: UploadFailure;
      readonly bytesSent?: number;
    }
  | { readonly type: "sent"; readonly id: string; readonly bytes: number }
  | {
      readonly type: "assigned";
      readonly id: string;
      readonly jobId: string;
      readonly photoId: string;
      readonly strategy: UploadStrategy;
    }
  /** It needs another job. */
  | { readonly type: "unassigned"; readonly id: string; readonly strategy: UploadStrategy }
  | { readonly type: "attempted"; readonly id: string }
  | {
      readonly type: "measured";
      /** Bytes a second; items that are not named have none. */
      readonly speeds: ReadonlyMap<string, number>;
      readonly bytesPerSecond: number | null;
      readonly secondsLeft: number | null;
    }
  | { readonly type: "pictured"; readonly id: string; readonly url: string | null }
  | { readonly type: "queue"; readonly isPaused: boolean }
  | { readonly type: "concurrency"; readonly uploads: number }
  | { readonly type: "limits"; readonly limits: UploadLimits }
  | { readonly type: "network"; readonly isOnline: boolean }
  | { readonly type: "transport"; readonly live: LiveTransport };

/** Events that change no phase, and so nothing that anybody waits for. */
export const QUIET: ReadonlySet<UploadEvent["type"]> = new Set(["sent", "measured", "pictured"]);

/** Phases that do not end by themselves; `failed` can be retried. */
export const ENDED: ReadonlySet<UploadPhase> = new Set([
  "completed",
  "failed",
  "cancelled",
  "rejected",
  "duplicate",
]);

/** Phases in which an item without a job gets one. */
export const WITHOUT_JOB: ReadonlySet<UploadPhase> = new Set(["waiting", "paused"]);

/** Where each phase may lead. What is missing here cannot happen, whatever an event says. */
export const TRANSITIONS: Readonly<Record<UploadPhase, ReadonlySet<UploadPhase>>> = {
  waiting: new Set([
    "sending",
    "paused",
    "needs-file",
    "processing",
    "completed",
    "failed",
    "cancelled",
    "rejected",
  ]),
  sending: new Set([
    "waiting",
    "paused",
    "needs-file",
    "processing",
    "completed",
    "failed",
    "cancelled",
  ]),
  paused: new Set([
    "waiting",
    "needs-file",
    "processing",
    "completed",
    "failed",
    "cancelled",
    "rejected",
  ]),
  // To itself: the gateway says how much of it another page, or this one before, has sent.
  "needs-file": new Set([
    "needs-file",
    "waiting",
    "paused",
    "processing",
    "completed",
    "failed",
    "cancelled",
  ]),
  // Back: after a reload the gateway may say that it never arrived.
  processing: new Set(["waiting", "paused", "needs-file", "completed", "failed", "cancelled"]),
  completed: new Set(),
  // To itself: the gateway knows the reason better.
  failed: new Set([
    "failed",
    "waiting",
    "paused",
    "needs-file",
    "processing",
    "completed",
    "cancelled",
  ]),
  // The gateway may have been faster than the person.
  cancelled: new Set(["completed"]),
  rejected: new Set(),
  duplicate: new Set(),
};
