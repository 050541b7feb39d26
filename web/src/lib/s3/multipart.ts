/** Photos above 5 MiB: parts in parallel, each repeated by itself; resumes from what is stored. */
import { ApiError, isAbort } from "@/lib/api/errors";
import { type RepeatOptions, repeated } from "@/lib/api/repeat";
import { type UploadCalls, newKey } from "@/lib/api/upload";
import type { PartPool } from "./partPool";
import { PartUrls } from "./partUrls";
import { type PartPlan, parseNumbers, planParts, rangeOf, sizeOf } from "./parts";
import { StoreError } from "./put";
import { type RepeatedPut, putRepeatedly } from "./repeatedPut";

export interface MultipartUpload {
  readonly calls: UploadCalls;
  readonly photoId: string;
  readonly file: Blob;
  /** Of a new attempt, whose parts the store cannot have; null to ask for the stored ones. */
  readonly fresh: { readonly uploadId: string; readonly partSize: number } | null;
  readonly signal: AbortSignal;
  readonly pool: PartPool;
  /** Parts at once of this file. */
  readonly parallel: number;
  /** Null to send parts without checksums. */
  readonly crc32c: ((blob: Blob) => Promise<number>) | null;
  /** Parts that the store has, and bytes of the running ones that the network has taken. */
  readonly onProgress: (bytesSent: number) => void;
  readonly repeat?: RepeatOptions;
  readonly put?: RepeatedPut["put"];
  readonly now?: () => number;
}

/** How often all begins again because the upload was replaced, or its parts were not there. */
const ROUNDS = 4;
const MISSING: ReadonlySet<string> = new Set(["PARTS_MISSING", "ETAG_MISMATCH"]);

/** Resolves when the photo has arrived. @throws as `sendSingle`. */
export async function sendMultipart(upload: MultipartUpload): Promise<void> {
  let fresh = upload.fresh;
  for (let round = 1; ; round += 1) {
    try {
      await new Attempt(upload, fresh).run();
      return;
    } catch (error) {
      if (error instanceof ApiError && error.reason === "UPLOAD_COMPLETE") {
        await finalize(upload, null);
        return;
      }
      const isReplaced = error instanceof ApiError && error.reason === "UPLOAD_REPLACED";
      const isGone = error instanceof StoreError && error.kind === "gone";
      if (!(isReplaced || isGone) || round >= ROUNDS) throw error;
      fresh = null; // the gateway says which upload it is now, and what it has
    }
  }
}

function finalize(upload: MultipartUpload, uploadId: string | null): Promise<unknown> {
  const { calls, photoId, signal } = upload;
  const key = newKey();
  return repeated(() => calls.finalize(photoId, uploadId, key, signal), {
    ...upload.repeat,
    signal,
  });
}

/** The sending of one multipart of the store. */
class Attempt {
  private plan: PartPlan = planParts(0, 1);
  private uploadId: string | null = null;
  private readonly confirmed = new Set<number>();
  private readonly running = new Map<number, number>();
  private confirmedBytes = 0;

  constructor(
    private readonly upload: MultipartUpload,
    private readonly fresh: MultipartUpload["fresh"],
  ) {}

  async run(): Promise<void> {
    if (this.fresh === null) await this.readStored();
    else {
      this.uploadId = this.fresh.uploadId;
      this.plan = planParts(this.upload.file.size, this.fresh.partSize);
    }
    for (let round = 1; ; round += 1) {
      await this.sendMissing();
      try {
        await finalize(this.upload, this.uploadId);
        return;
      } catch (error) {
        const isMissing = error instanceof ApiError && MISSING.has(error.reason);
        if (!isMissing || round >= ROUNDS) throw error;
        const named = parseNumbers(error.metadata["parts"], this.plan);
        if (named === null) await this.readStored();
        else this.forget(named);
      }
    }
  }

  private async readStored(): Promise<void> {
    const { calls, photoId, file, signal } = this.upload;
    const view = await repeated(
      () => calls.signParts(photoId, { parts: [] }, signal),
      this.repeatOptions(),
    );
    this.uploadId = view.uploadId;
    this.plan = planParts(file.size, view.partSize);
    this.confirmed.clear();
    this.confirmedBytes = 0;
    for (const { partNumber } of view.stored) this.confirm(partNumber);
    this.report();
  }

  /** Send all parts that the store lacks: one at a time, and more with permits of the pool. */
  private async sendMissing(): Promise<void> {
    const missing: number[] = [];
    for (let number = 1; number <= this.plan.count; number += 1) {
      if (!this.confirmed.has(number)) missing.push(number);
    }
    const { signal, pool, parallel } = this.upload;
    const queue = missing.values();
    const urls = this.partUrls(missing);
    const failed = new AbortController();
    // Those that wait for a permit need none any more when the queue is empty.
    const drained = new AbortController();
    const both = AbortSignal.any([signal, failed.signal]);
    const first = async () => {
      for (const number of queue) await this.sendPart(number, urls, both);
      drained.abort();
    };
    const further = async () => {
      for (;;) {
        const release = await pool.acquire(AbortSignal.any([both, drained.signal]));
        try {
          const { value, done } = queue.next();
          if (done === true) return;
          await this.sendPart(value, urls, both);
        } finally {
          release();
        }
      }
    };
    const errors: unknown[] = [];
    const guard = async (work: Promise<void>) => {
      try {
        await work;
      } catch (error) {
        if (isAbort(error) && drained.signal.aborted && !both.aborted) return;
        errors.push(error);
        failed.abort();
      }
    };
    const helpers = Math.min(parallel, missing.length) - 1;
    await Promise.all([
      guard(first()),
      ...Array.from({ length: Math.max(0, helpers) }, () => guard(further())),
    ]);
    if (errors.length > 0) throw errors[0];
  }

  private partUrls(missing: readonly number[]): PartUrls {
    const { calls, photoId, file, crc32c, signal, now } = this.upload;
    return new PartUrls({
      missing,
      batch: Math.max(1, this.upload.parallel),
      crc32c: crc32c === null ? null : (number) => crc32c(this.slice(file, number)),
      sign: (parts) =>
        repeated(
          () =>
            calls.signParts(
              photoId,
              this.uploadId === null ? { parts } : { uploadId: this.uploadId, parts },
              signal,
            ),
          this.repeatOptions(),
        ),
      ...(now === undefined ? {} : { now }),
    });
  }

  private async sendPart(number: number, urls: PartUrls, signal: AbortSignal): Promise<void> {
    const { put, repeat } = this.upload;
    try {
      await putRepeatedly({
        body: this.slice(this.upload.file, number),
        signal,
        urlOf: (mustRenew) => urls.get(number, mustRenew),
        onProgress: (bytes) => {
          this.running.set(number, bytes);
          this.report();
        },
        ...(put === undefined ? {} : { put }),
        ...(repeat?.pause === undefined ? {} : { pause: repeat.pause }),
      });
      this.confirm(number);
    } finally {
      this.running.delete(number);
      this.report();
    }
  }

  private slice(file: Blob, number: number): Blob {
    const [start, end] = rangeOf(this.plan, number);
    return file.slice(start, end);
  }

  private confirm(number: number): void {
    if (this.confirmed.has(number) || number < 1 || number > this.plan.count) return;
    this.confirmed.add(number);
    this.confirmedBytes += sizeOf(this.plan, number);
  }

  private forget(numbers: readonly number[]): void {
    for (const number of numbers) {
      if (this.confirmed.delete(number)) this.confirmedBytes -= sizeOf(this.plan, number);
    }
    this.report();
  }

  private report(): void {
    let bytes = this.confirmedBytes;
    for (const [number, sent] of this.running) {
      if (!this.confirmed.has(number)) bytes += Math.min(sent, sizeOf(this.plan, number));
    }
    this.upload.onProgress(Math.min(bytes, this.plan.size));
  }

  private repeatOptions(): RepeatOptions {
    return { ...this.upload.repeat, signal: this.upload.signal };
  }
}
