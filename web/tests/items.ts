/** Items for tests. */
import type { UploadItem } from "@/stores/uploadTypes";

export function itemOf(id: string, changes: Partial<UploadItem> = {}): UploadItem {
  return {
    id,
    batchId: "batch",
    name: `${id}.jpg`,
    size: 1000,
    type: "image/jpeg",
    rank: 0,
    phase: "waiting",
    strategy: "single",
    bytesSent: 0,
    jobId: null,
    photoId: null,
    attempt: 1,
    failure: null,
    bytesPerSecond: null,
    thumbnailUrl: null,
    ...changes,
  };
}
