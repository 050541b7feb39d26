/** A gateway and its store in memory, by the rules of docs/gateway.md, with faults on demand. */
import { ApiError } from "@/lib/api/errors";
import type {
  FileBody,
  JobView,
  NewJobView,
  PartsView,
  PhotoStateView,
  ProgressReport,
  UploadCalls,
  UploadItemView,
} from "@/lib/api/upload";
import type { PutOptions } from "@/lib/s3/put";
import { StoreError } from "@/lib/s3/put";
import { LIMITS } from "./items";
import type { LiveListener } from "@/lib/websocket/types";

export interface FakePhoto {
  readonly photoId: string;
  readonly jobId: string;
  readonly file: FileBody;
  status: PhotoStateView["status"];
  reason: string | null;
  attempt: number;
  /** Whether its object is in the store. */
  hasObject: boolean;
  parts: Map<number, Uint8Array>;
  content: Uint8Array | null;
}

type CallName = keyof UploadCalls | "put";

export const SINGLE_MAX = 5 * 1024 * 1024;

/** @param partSize - of the multiparts; small ones make tests fast. */
export class FakeGateway {
  readonly photos = new Map<string, FakePhoto>();
  readonly jobs = new Map<string, string[]>();
  readonly reports: ProgressReport[][] = [];
  /** Names of the calls in their order, with the photo or the job. */
  readonly log: string[] = [];
  readonly sentParts: string[] = [];
  putsNow = 0;
  mostPuts = 0;
  listener: LiveListener | null = null;
  singleMax = SINGLE_MAX;
  /** Whether a photo that has arrived is COMPLETED at once. */
  completes = true;
  /** Called in each PUT after half of its bytes; may wait. */
  onPut: ((options: PutOptions) => Promise<void> | void) | null = null;
  private readonly faults = new Map<CallName, Error[]>();
  private readonly answers = new Map<string, NewJobView>();
  private sequence = 0;
  private signatures = 0;
  private readonly revoked = new Set<string>();

  constructor(private readonly partSize = 8 * 1024 * 1024) {}

  /** The next calls of this name reject with these errors, one after the other. */
  fail(name: CallName, ...errors: Error[]): void {
    this.faults.set(name, [...(this.faults.get(name) ?? []), ...errors]);
  }

  /** All URLs that were signed so far have expired. */
  expireUrls(): void {
    for (let number = 1; number <= this.signatures; number += 1) this.revoked.add(`${number}`);
  }

  count(name: CallName): number {
    return this.log.filter((line) => line.split(" ")[0] === name).length;
  }

  photoOf(name: string): FakePhoto {
    for (const photo of this.photos.values()) if (photo.file.filename === name) return photo;
    throw new Error(`There is no photo ${name}.`);
  }

  setStatus(photo: FakePhoto, status: FakePhoto["status"], reason: string | null = null): void {
    photo.status = status;
    photo.reason = reason;
    this.sequence += 1;
    this.listener?.onChange({
      jobId: photo.jobId,
      photoId: photo.photoId,
      status,
      progress: 0,
      sequence: this.sequence,
      bytesSent: null,
      bytesTotal: photo.file.bytes,
      reason,
    });
  }

  readonly put = async (options: PutOptions): Promise<void> => {
    const url = new URL(options.url);
    const photo = this.known(url.searchParams.get("photo") ?? "");
    const number = url.searchParams.get("part");
    this.log.push(`put ${photo.photoId}`);
    this.putsNow += 1;
    this.mostPuts = Math.max(this.mostPuts, this.putsNow);
    try {
      await this.transfer(options, url, photo, number === null ? null : Number(number));
    } finally {
      this.putsNow -= 1;
    }
  };

  readonly calls: UploadCalls = {
    createJob: async (files, strategy, key) => {
      await this.enter("createJob", key);
      const known = this.answers.get(key);
      if (known !== undefined) return known;
      const jobId = `job-${this.jobs.size + 1}`;
      const photos = files.map((file) => this.newPhoto(jobId, file));
      this.jobs.set(
        jobId,
        photos.map((photo) => photo.photoId),
      );
      const answer = { jobId, items: photos.map((photo) => this.item(photo, strategy === "tus")) };
      this.answers.set(key, answer);
      return answer;
    },
    limits: () => Promise.resolve(LIMITS),
    getJob: async (jobId) => {
      await this.enter("getJob", jobId);
      return this.job(jobId);
    },
    cancelJob: async (jobId) => {
      await this.enter("cancelJob", jobId);
      for (const id of this.jobs.get(jobId) ?? []) {
        const photo = this.known(id);
        if (!ENDED.has(photo.status)) this.setStatus(photo, "CANCELLED");
      }
      return this.job(jobId);
    },
    signParts: async (photoId, body) => {
      await this.enter("signParts", photoId);
      const photo = this.open(photoId);
      if (body.uploadId !== undefined && body.uploadId !== uploadIdOf(photo)) {
        throw problem(409, "UPLOAD_REPLACED", { upload_id: uploadIdOf(photo) });
      }
      if (photo.hasObject) throw problem(409, "UPLOAD_COMPLETE");
      if (photo.status === "QUEUED") this.setStatus(photo, "UPLOADING");
      const all = Array.from({ length: this.partCount(photo) }, (_, index) => index + 1);
      const wanted =
        body.parts?.map((part) => part.partNumber) ?? all.filter((each) => !photo.parts.has(each));
      return this.partsView(photo, wanted);
    },
    finalize: async (photoId, uploadId) => {
      await this.enter("finalize", photoId);
      const photo = this.known(photoId);
      if (uploadId !== null && uploadId !== uploadIdOf(photo))
        throw problem(409, "UPLOAD_REPLACED");
      if (photo.status === "PROCESSING" || photo.status === "COMPLETED") return this.state(photo);
      if (ENDED.has(photo.status)) throw problem(409, "PHOTO_ENDED", { status: photo.status });
      this.complete(photo);
      return this.state(photo);
    },
    renew: async (photoId) => {
      await this.enter("renew", photoId);
      return this.item(this.open(photoId), false);
    },
    retry: async (photoId) => {
      await this.enter("retry", photoId);
      const photo = this.known(photoId);
      if (photo.hasObject) throw problem(409, "OBJECT_EXISTS");
      if (photo.status === "COMPLETED" || photo.status === "CANCELLED") {
        throw problem(409, "PHOTO_ENDED", { status: photo.status });
      }
      if (photo.status !== "FAILED") throw problem(409, "PHOTO_NOT_FAILED");
      photo.attempt += 1;
      photo.parts = new Map();
      this.setStatus(photo, "QUEUED");
      return this.item(photo, false);
    },
    reprocess: async (photoId) => {
      await this.enter("reprocess", photoId);
      const photo = this.known(photoId);
      this.setStatus(photo, "PROCESSING");
      return this.state(photo);
    },
    cancel: async (photoId) => {
      await this.enter("cancel", photoId);
      const photo = this.known(photoId);
      if (photo.status === "COMPLETED" || photo.status === "FAILED") {
        throw problem(409, "PHOTO_ENDED", { status: photo.status });
      }
      this.setStatus(photo, "CANCELLED");
      return this.state(photo);
    },
    reportProgress: async (reports) => {
      await this.enter("reportProgress", `${reports.length}`);
      this.reports.push([...reports]);
    },
  };

  private async enter(name: CallName, detail: string): Promise<void> {
    this.log.push(`${name} ${detail}`);
    await Promise.resolve();
    const fault = this.faults.get(name)?.shift();
    if (fault !== undefined) throw fault;
  }

  private async transfer(
    options: PutOptions,
    url: URL,
    photo: FakePhoto,
    number: number | null,
  ): Promise<void> {
    options.onProgress(Math.floor(options.body.size / 2));
    await this.onPut?.(options);
    await Promise.resolve();
    if (options.signal.aborted) throw new DOMException("Aborted", "AbortError");
    const fault = this.faults.get("put")?.shift();
    if (fault !== undefined) throw fault;
    if (this.revoked.has(url.searchParams.get("signature") ?? "")) {
      throw new StoreError("denied", 403, "URL_EXPIRED");
    }
    const bytes = new Uint8Array(await options.body.arrayBuffer());
    options.onProgress(options.body.size);
    if (number !== null) {
      if (url.searchParams.get("upload") !== uploadIdOf(photo)) {
        throw new StoreError("gone", 404, "NoSuchUpload");
      }
      photo.parts.set(number, bytes);
      this.sentParts.push(`${photo.file.filename}#${number}`);
      return;
    }
    if (photo.hasObject) throw new StoreError("there", 412, "PreconditionFailed");
    photo.content = bytes;
    photo.hasObject = true;
  }

  private complete(photo: FakePhoto): void {
    if (photo.file.bytes > this.singleMax) {
      const count = this.partCount(photo);
      const missing = Array.from({ length: count }, (_, index) => index + 1).filter(
        (number) => !photo.parts.has(number),
      );
      if (missing.length > 0) throw problem(409, "PARTS_MISSING", { parts: missing.join() });
      photo.content = joined(photo.parts, count);
      photo.hasObject = true;
    }
    if (!photo.hasObject) throw problem(409, "OBJECT_MISSING");
    this.setStatus(photo, "PROCESSING");
    if (this.completes) this.setStatus(photo, "COMPLETED");
  }

  private newPhoto(jobId: string, file: FileBody): FakePhoto {
    const photo: FakePhoto = {
      photoId: `photo-${this.photos.size + 1}`,
      jobId,
      file,
      status: "QUEUED",
      reason: null,
      attempt: 1,
      hasObject: false,
      parts: new Map(),
      content: null,
    };
    this.photos.set(photo.photoId, photo);
    return photo;
  }

  private known(photoId: string): FakePhoto {
    const photo = this.photos.get(photoId);
    if (photo === undefined) throw problem(404, "PHOTO_NOT_FOUND");
    return photo;
  }

  private open(photoId: string): FakePhoto {
    const photo = this.known(photoId);
    if (photo.status === "PROCESSING") throw problem(409, "PHOTO_UPLOADED");
    if (ENDED.has(photo.status)) throw problem(409, "PHOTO_ENDED", { status: photo.status });
    return photo;
  }

  private partCount(photo: FakePhoto): number {
    return Math.ceil(photo.file.bytes / this.partSize);
  }

  private sign(photo: FakePhoto, more: string): string {
    this.signatures += 1;
    return `https://store.test/?photo=${photo.photoId}&signature=${this.signatures}${more}`;
  }

  private item(photo: FakePhoto, isTus: boolean): UploadItemView {
    const isMultipart = photo.file.bytes > this.singleMax;
    return {
      photoId: photo.photoId,
      filename: photo.file.filename,
      method: isTus ? "POST" : "PUT",
      presignedUrl: isTus ? "/files/" : isMultipart ? null : this.sign(photo, ""),
      headers: {},
      expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
      multipart:
        isMultipart && !isTus ? { uploadId: uploadIdOf(photo), partSize: this.partSize } : null,
    };
  }

  private partsView(photo: FakePhoto, wanted: readonly number[]): PartsView {
    const uploadId = uploadIdOf(photo);
    return {
      photoId: photo.photoId,
      uploadId,
      partSize: this.partSize,
      partCount: this.partCount(photo),
      stored: [...photo.parts].map(([partNumber, bytes]) => ({
        partNumber,
        bytes: bytes.length,
        etag: `"${partNumber}"`,
      })),
      parts: wanted.map((partNumber) => ({
        partNumber,
        bytes: this.partSize,
        method: "PUT",
        presignedUrl: this.sign(photo, `&part=${partNumber}&upload=${uploadId}`),
        headers: {},
        expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
      })),
    };
  }

  private state(photo: FakePhoto): PhotoStateView {
    return {
      photoId: photo.photoId,
      filename: photo.file.filename,
      mimeType: photo.file.mimeType,
      bytes: photo.file.bytes,
      status: photo.status,
      progress: 0,
      bytesSent: [...photo.parts.values()].reduce((sum, part) => sum + part.length, 0),
      reason: photo.reason,
      detail: null,
      attempt: photo.attempt,
      deleted: false,
    };
  }

  private job(jobId: string): JobView {
    const ids = this.jobs.get(jobId);
    if (ids === undefined) throw problem(404, "JOB_NOT_FOUND");
    return {
      jobId,
      status: "IN_PROGRESS",
      strategy: "s3-presigned",
      totalCount: ids.length,
      queuedCount: 0,
      uploadingCount: 0,
      processingCount: 0,
      completedCount: 0,
      failedCount: 0,
      cancelledCount: 0,
      bytesTotal: 0,
      createdAt: "2026-01-01T00:00:00Z",
      updatedAt: "2026-01-01T00:00:00Z",
      finishedAt: null,
      progress: 0,
      bytesSent: 0,
      photos: ids.map((id) => this.state(this.known(id))),
    };
  }
}

const ENDED: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

function uploadIdOf(photo: FakePhoto): string {
  return `${photo.photoId}.${photo.attempt}`;
}

export function problem(
  status: number,
  reason: string,
  metadata: Record<string, string> = {},
  fields: readonly string[] = [],
  retryAfterSeconds: number | null = null,
): ApiError {
  return new ApiError(
    status,
    reason,
    "Something is wrong; do something.",
    retryAfterSeconds,
    metadata,
    fields.map((field) => ({ field, detail: "" })),
  );
}

function joined(parts: ReadonlyMap<number, Uint8Array>, count: number): Uint8Array {
  const pieces = Array.from(
    { length: count },
    (_, index) => parts.get(index + 1) ?? new Uint8Array(),
  );
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
