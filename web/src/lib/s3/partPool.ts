/**
 * Permits for parts beyond the first of each file.
 *
 * A browser sends six requests to an origin at once and queues the others, so further parts help
 * only while few files are under way. Every file may always send one.
 */
export interface PartPool {
  /** Resolves with the permit's return. @throws the signal's reason. */
  acquire(signal: AbortSignal): Promise<() => void>;
  /** Files under way, each of which has one request. */
  setFiles(count: number): void;
}

export function createPartPool(requestsAtOnce = 8): PartPool {
  let files = 0;
  let used = 0;
  const waiting = new Set<() => void>();

  const serve = () => {
    for (const grant of waiting) {
      if (files + used >= requestsAtOnce) return;
      waiting.delete(grant);
      used += 1;
      grant();
    }
  };
  const release = () => {
    used -= 1;
    serve();
  };
  return {
    setFiles: (count) => {
      files = count;
      serve();
    },
    acquire: (signal) =>
      new Promise((resolve, reject) => {
        const stop = () => {
          waiting.delete(grant);
          reject(new DOMException("Aborted", "AbortError"));
        };
        const grant = () => {
          signal.removeEventListener("abort", stop);
          resolve(release);
        };
        if (signal.aborted) {
          stop();
          return;
        }
        signal.addEventListener("abort", stop, { once: true });
        waiting.add(grant);
        serve();
      }),
  };
}
