/** Which upload is next, and which files make a job. Pure. */
import type { UploadItem, UploadState } from "@/stores/uploadTypes";

/** Ids of those to start now, in the order of the queue, as many as there are free slots. */
export function nextUploads(
  state: UploadState,
  isReady: (item: UploadItem) => boolean,
): readonly string[] {
  let free = state.concurrency - state.summary.uploading;
  const next: string[] = [];
  if (!state.isOnline || state.summary.waiting === 0) return next;
  for (const id of state.order) {
    if (free <= 0) break;
    const item = state.items.get(id);
    if (item?.phase !== "waiting" || item.photoId === null || !isReady(item)) continue;
    next.push(id);
    free -= 1;
  }
  return next;
}

/** Ids of the files of one job: of one batch, sent in one way, no more than a job may have. */
export type JobPlan = readonly string[];

/** Jobs for all items that need one, by the order of the queue. */
export function planJobs(
  state: UploadState,
  needsJob: (item: UploadItem) => boolean,
): readonly JobPlan[] {
  const most = state.limits.maxJobPhotos;
  const groups = new Map<string, string[]>();
  for (const id of state.order) {
    const item = state.items.get(id);
    if (item?.jobId !== null || !needsJob(item)) continue;
    const key = `${item.batchId} ${item.strategy === "tus" ? "tus" : "s3"}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [id]);
    else group.push(id);
  }
  return [...groups.values()].flatMap((group) => {
    const jobs = [];
    for (let start = 0; start < group.length; start += most) {
      jobs.push(group.slice(start, start + most));
    }
    return jobs;
  });
}
