/** Live updates that outlive their connection: of a session that ends, and of the next one. */
import type { LiveUpdates } from "./types";

export interface LiveRelay extends LiveUpdates {
  /**
   * Open a connection; what is followed, and will be, is followed by it. Returns how to end it.
   * A connection that was there before ends.
   */
  connect(open: () => LiveUpdates): () => void;
}

/**
 * Return a relay without a connection.
 *
 * The engine takes it before anybody is logged in, and keeps it: the listener of a connection is
 * the engine's own, so that neither could be made before the other.
 */
export function createLiveRelay(): LiveRelay {
  const jobs = new Set<string>();
  let current: LiveUpdates | null = null;

  const disconnect = (connection: LiveUpdates | null): void => {
    if (connection === null || current !== connection) return;
    current = null;
    connection.stop();
  };
  return {
    follow(jobId) {
      jobs.add(jobId);
      current?.follow(jobId);
    },
    unfollow(jobId) {
      if (jobs.delete(jobId)) current?.unfollow(jobId);
    },
    wake() {
      current?.wake();
    },
    stop() {
      jobs.clear();
      disconnect(current);
    },
    connect(open) {
      disconnect(current);
      const connection = open();
      current = connection;
      for (const jobId of jobs) connection.follow(jobId);
      return () => {
        disconnect(connection);
      };
    },
  };
}
