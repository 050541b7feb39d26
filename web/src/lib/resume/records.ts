/** What is kept of an upload over a reload, and how a file is recognised again. */
import type { FileSource, UploadItem, UploadStrategy } from "@/stores/uploadTypes";
import { crc32cText, updateCrc32c } from "@/lib/s3/crc32c";

export interface UploadRecord {
  readonly id: string;
  /** Whose upload it is: the user's id. */
  readonly owner: string;
  /** The page that has it; another one takes it over when that is closed. */
  readonly tab: string;
  readonly batchId: string;
  readonly name: string;
  readonly size: number;
  readonly type: string;
  readonly lastModified: number;
  readonly folder: string;
  readonly rank: number;
  readonly isPaused: boolean;
  readonly strategy: UploadStrategy;
  readonly jobId: string | null;
  readonly photoId: string | null;
  readonly attempt: number;
  /** Where a tus upload goes on. */
  readonly tusUrl: string | null;
  /** CRC32C of the first block; null if it was not read yet. */
  readonly digest: string | null;
  /** All bytes have been sent: only the end of its processing is awaited. */
  readonly hasArrived: boolean;
}

/** As earlier releases wrote it: with the time at which it was added, in milliseconds since 1970. */
export type FormerRecord = Omit<UploadRecord, "rank"> & { readonly addedAt: number };

/**
 * A record as this release has it. Not by an upgrade of the database: a page of the earlier release
 * that is still open could not open it again.
 */
export function currentRecord(record: UploadRecord | FormerRecord): UploadRecord {
  if ("rank" in record) return record;
  const { addedAt, ...rest } = record;
  // Both are milliseconds since 1970 until a queue is ordered by hand.
  return { ...rest, rank: addedAt };
}

/** A file beside its record, written once: each writing copies its bytes. */
export interface StoredFile {
  readonly id: string;
  readonly file?: File;
  readonly handle?: FileSystemFileHandle;
}

/** Bytes of a file's beginning by which it is recognised. */
export const FIRST_BLOCK = 64 * 1024;

/** Checksum of the first block. @throws what reading the file throws. */
export async function digestOf(file: Blob): Promise<string> {
  const bytes = await file.slice(0, FIRST_BLOCK).arrayBuffer();
  return crc32cText(updateCrc32c(0, new Uint8Array(bytes)));
}

/** What a record and a candidate have in common before a byte is read. */
export function looksLike(record: Pick<UploadRecord, "name" | "size">, file: File): boolean {
  return record.name === file.name && record.size === file.size;
}

/**
 * Whether this is the file of the record. The time counts only without a digest: copies and
 * synchronised folders keep the bytes, not the time.
 */
export async function isSameFile(
  record: Pick<UploadRecord, "name" | "size" | "lastModified" | "digest">,
  file: File,
): Promise<boolean> {
  if (!looksLike(record, file)) return false;
  if (record.digest === null) return record.lastModified === file.lastModified;
  try {
    return (await digestOf(file)) === record.digest;
  } catch {
    return false;
  }
}

/** Two files of a queue with one key are the same file. */
export function duplicateKey(name: string, size: number, time: number, folder: string): string {
  return [folder, name, size, time].join("\u0000");
}

export function duplicateKeyOf({ file, folder }: FileSource): string {
  return duplicateKey(file.name, file.size, file.lastModified, folder ?? "");
}

export function recordKeyOf(record: UploadRecord): string {
  return duplicateKey(record.name, record.size, record.lastModified, record.folder);
}

/** Members of a record that follow from an item. */
export function recordedState(
  item: UploadItem,
): Pick<
  UploadRecord,
  "isPaused" | "strategy" | "jobId" | "photoId" | "attempt" | "hasArrived" | "rank"
> {
  return {
    isPaused: item.phase === "paused",
    strategy: item.strategy,
    jobId: item.jobId,
    photoId: item.photoId,
    attempt: item.attempt,
    hasArrived: item.phase === "processing",
    rank: item.rank,
  };
}
