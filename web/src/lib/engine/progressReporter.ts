/**
 * Tells the gateway what has been sent, for the person's other pages and devices. Best effort: no
 * upload waits for it or fails by it.
 */
import { ApiError } from "@/lib/api/errors";
import { MAX_JOB_PHOTOS, type ProgressReport, type UploadCalls } from "@/lib/api/upload";
import type { UploadState } from "@/stores/uploadTypes";

/** Milliseconds between two posts: the gateway takes 20 a second from all pages of a person. */
const INTERVAL_MS = 500;
const LONGEST_INTERVAL_MS = 30_000;

export class ProgressReporter {
  private readonly reported = new Map<string, number>();
  private isPosting = false;
  private notBefore = 0;
  private intervalMs = INTERVAL_MS;

  constructor(
    private readonly calls: Pick<UploadCalls, "reportProgress">,
    private readonly now: () => number = Date.now,
  ) {}

  /** Post what has changed, unless it is too soon. */
  tick(state: UploadState): void {
    if (this.isPosting || this.now() < this.notBefore || !state.isOnline) return;
    const reports = this.changed(state);
    if (reports.length === 0) return;
    this.isPosting = true;
    void this.post(reports).finally(() => {
      this.isPosting = false;
    });
  }

  private changed(state: UploadState): ProgressReport[] {
    const reports: ProgressReport[] = [];
    const sending = new Set<string>();
    for (const item of state.items.values()) {
      if (item.phase !== "sending" || item.photoId === null) continue;
      sending.add(item.photoId);
      // Reports that go back change nothing there.
      if (item.bytesSent <= (this.reported.get(item.photoId) ?? 0)) continue;
      if (reports.length === MAX_JOB_PHOTOS) continue;
      const { photoId, bytesSent, size } = item;
      reports.push({ photoId, bytesSent, bytesTotal: size });
    }
    for (const photoId of this.reported.keys()) {
      if (!sending.has(photoId)) this.reported.delete(photoId);
    }
    return reports;
  }

  private async post(reports: readonly ProgressReport[]): Promise<void> {
    this.notBefore = this.now() + this.intervalMs;
    try {
      await this.calls.reportProgress(reports);
      for (const { photoId, bytesSent } of reports) this.reported.set(photoId, bytesSent);
      this.intervalMs = INTERVAL_MS;
    } catch (error) {
      const asked = error instanceof ApiError ? (error.retryAfterSeconds ?? 0) : 0;
      this.intervalMs = Math.min(LONGEST_INTERVAL_MS, 2 * this.intervalMs);
      this.notBefore = this.now() + Math.max(1000 * asked, this.intervalMs);
    }
  }
}
