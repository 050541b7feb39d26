/** The jobs that are followed, what was seen of each, and what is too old to be shown. */
import { isJobEnd } from "./messages";
import type { Followed } from "./transport";
import type { ProgressUpdate } from "./types";

interface SeenJob {
  cursor: number | null;
  hasEnded: boolean;
  /** Newest sequence by photo; the job itself is "". */
  readonly newest: Map<string, number>;
}

export class FollowedJobs implements Followed {
  readonly #jobs = new Map<string, SeenJob>();

  ids(): readonly string[] {
    return [...this.#jobs.keys()];
  }

  has(jobId: string): boolean {
    return this.#jobs.has(jobId);
  }

  cursor(jobId: string): number | null {
    return this.#jobs.get(jobId)?.cursor ?? null;
  }

  hasEnded(jobId: string): boolean {
    return this.#jobs.get(jobId)?.hasEnded ?? false;
  }

  /** Return whether the job is new. One that is followed again may have been opened again. */
  add(jobId: string): boolean {
    const known = this.#jobs.get(jobId);
    if (known !== undefined) {
      known.hasEnded = false;
      return false;
    }
    this.#jobs.set(jobId, { cursor: null, hasEnded: false, newest: new Map() });
    return true;
  }

  /** Return whether the job was followed. */
  remove(jobId: string): boolean {
    return this.#jobs.delete(jobId);
  }

  /**
   * Note a snapshot; return whether it is of a followed job.
   *
   * @param cursor - null for states that have no sequence, as those of polling: what the log has
   *   may be older than they are, so that the next stream begins with a snapshot too.
   */
  takeSnapshot(jobId: string, updates: readonly ProgressUpdate[], cursor: number | null): boolean {
    const job = this.#jobs.get(jobId);
    if (job === undefined) return false;
    job.cursor = cursor;
    job.newest.clear();
    for (const update of updates) {
      // Later changes up to the snapshot's position are in it.
      if (cursor !== null) job.newest.set(update.photoId ?? "", cursor);
      if (update.photoId === null) job.hasEnded = isJobEnd(update.status);
    }
    return true;
  }

  /** Note a change; return whether it is of a followed job, and newer than what was seen. */
  takeChange(update: ProgressUpdate): boolean {
    const job = this.#jobs.get(update.jobId);
    if (job === undefined) return false;
    const key = update.photoId ?? "";
    if (update.sequence <= (job.newest.get(key) ?? -1)) return false;
    job.newest.set(key, update.sequence);
    // Without a snapshot, what came before is not known: the next stream begins with one.
    if (job.cursor !== null) job.cursor = Math.max(job.cursor, update.sequence);
    if (update.photoId === null) job.hasEnded = isJobEnd(update.status);
    return true;
  }
}
