/** Updates, jobs and a listener of tests. */
import type { LiveTransport } from "@/stores/uploadTypes";
import type { LiveListener, ProgressUpdate } from "@/lib/websocket/types";

export function update(changes: Partial<ProgressUpdate> = {}): ProgressUpdate {
  return {
    jobId: "j1",
    photoId: "p1",
    status: "UPLOADING",
    progress: 42,
    sequence: 10,
    bytesSent: 42,
    bytesTotal: 100,
    reason: null,
    ...changes,
  };
}

/** The answer of `GET /queries/upload-jobs/{jobId}`. */
export function jobView(jobId = "j1", status = "IN_PROGRESS", photo = "UPLOADING"): unknown {
  return {
    jobId,
    status,
    progress: 50,
    bytesSent: 50,
    bytesTotal: 100,
    photos: [
      { photoId: "p1", status: photo, progress: 50, bytesSent: 50, bytes: 100, reason: null },
    ],
  };
}

export function jsonResponse(body: unknown, status = 200, headers = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json", ...headers },
  });
}

/** Notes what it hears, in order. */
export class RecordingListener implements LiveListener {
  readonly transports: LiveTransport[] = [];
  readonly snapshots: { jobId: string; updates: readonly ProgressUpdate[]; complete: boolean }[] =
    [];
  readonly changes: ProgressUpdate[] = [];
  readonly gone: string[] = [];

  onSnapshot(jobId: string, updates: readonly ProgressUpdate[], complete: boolean): void {
    this.snapshots.push({ jobId, updates, complete });
  }

  onChange(change: ProgressUpdate): void {
    this.changes.push(change);
  }

  onTransport(transport: LiveTransport): void {
    this.transports.push(transport);
  }

  onGone(jobId: string): void {
    this.gone.push(jobId);
  }
}
