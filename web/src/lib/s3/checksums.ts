/** Checksums of parts: in a worker where there is one, else in slices on the page's thread. */
import { isRecord } from "@/lib/api/errors";
import { crc32cOf } from "./crc32c";

/** The part of `Worker` that is used. */
export interface ChecksumWorker {
  postMessage(message: unknown): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<unknown>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
}

export interface Checksums {
  /** @throws what reading the blob throws. */
  crc32c(blob: Blob): Promise<number>;
  stop(): void;
}

interface Waiting {
  readonly blob: Blob;
  readonly resolve: (crc: number | Promise<number>) => void;
}

export function createChecksums(newWorker: () => ChecksumWorker = startWorker): Checksums {
  let worker: ChecksumWorker | null = null;
  let isBroken = false;
  let lastId = 0;
  const waiting = new Map<number, Waiting>();

  const giveUp = () => {
    isBroken = true;
    worker?.terminate();
    worker = null;
    for (const { blob, resolve } of waiting.values()) resolve(crc32cOf(blob));
    waiting.clear();
  };
  const start = (): ChecksumWorker | null => {
    if (worker !== null || isBroken) return worker;
    try {
      worker = newWorker();
    } catch {
      isBroken = true; // no workers here, or none of this origin
      return null;
    }
    worker.onerror = giveUp;
    worker.onmessage = ({ data }) => {
      if (!isRecord(data) || typeof data["id"] !== "number") return;
      const asked = waiting.get(data["id"]);
      waiting.delete(data["id"]);
      // Read here once more after a failure, for its error.
      asked?.resolve(typeof data["crc"] === "number" ? data["crc"] : crc32cOf(asked.blob));
    };
    return worker;
  };
  return {
    crc32c: (blob) => {
      const running = start();
      if (running === null) return crc32cOf(blob);
      return new Promise((resolve) => {
        lastId += 1;
        waiting.set(lastId, { blob, resolve });
        try {
          running.postMessage({ id: lastId, blob });
        } catch {
          giveUp();
        }
      });
    },
    stop: () => {
      worker?.terminate();
      worker = null;
      for (const { blob, resolve } of waiting.values()) resolve(crc32cOf(blob));
      waiting.clear();
    },
  };
}

function startWorker(): ChecksumWorker {
  return new Worker(new URL("./crc32c.worker.ts", import.meta.url), { type: "module" });
}
