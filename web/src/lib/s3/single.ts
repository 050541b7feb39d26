/** Photos up to 5 MiB: one PUT, then `finalize`, which saves waiting for the store's notification. */
import { ApiError } from "@/lib/api/errors";
import { type RepeatOptions, isPassing, repeated } from "@/lib/api/repeat";
import { type UploadCalls, type UploadItemView, newKey } from "@/lib/api/upload";
import { StoreError } from "./put";
import { type RepeatedPut, isUsable, putRepeatedly } from "./repeatedPut";

/** How a photo is sent, as the gateway said it. */
export interface Ticket {
  readonly item: UploadItemView;
  /** Milliseconds since 1970. */
  readonly signedAt: number;
}

export interface SingleUpload {
  readonly calls: UploadCalls;
  readonly photoId: string;
  readonly file: Blob;
  /** Null after a reload: another URL is asked for. */
  readonly ticket: Ticket | null;
  readonly signal: AbortSignal;
  readonly onProgress: (bytesSent: number) => void;
  readonly repeat?: RepeatOptions;
  readonly put?: RepeatedPut["put"];
  readonly now?: () => number;
}

/** How often a photo is sent that the store then does not have. */
const SENDINGS = 3;

/**
 * Resolves when the photo has arrived.
 *
 * @throws `StoreError`; `ApiError` such as PHOTO_UPLOADED, PHOTO_ENDED, PHOTO_NOT_FOUND;
 * `NetworkError`; `AbortError` of the signal.
 */
export async function sendSingle(upload: SingleUpload): Promise<void> {
  const { calls, photoId, file, signal, onProgress, now = Date.now } = upload;
  const again: RepeatOptions = { ...upload.repeat, signal };
  let ticket = upload.ticket;
  const urlOf = async (mustRenew: boolean) => {
    if (mustRenew || ticket === null || !isUsable(ticket.item.expiresAt, ticket.signedAt, now())) {
      const signedAt = now();
      ticket = { item: await repeated(() => calls.renew(photoId, signal), again), signedAt };
    }
    const { presignedUrl, headers } = ticket.item;
    // The size decides, and the gateway knows it: it would be a defect.
    if (presignedUrl === null) throw new ApiError(409, "NOT_SINGLE", "It has no URL.", null);
    return { url: presignedUrl, headers };
  };
  const finalize = (options: RepeatOptions) => {
    const key = newKey();
    return repeated(() => calls.finalize(photoId, null, key, signal), options);
  };
  const hasArrived = async () => {
    try {
      await finalize({ ...again, tries: 1 });
      return true;
    } catch (error) {
      if (isMissing(error) || isPassing(error)) return false;
      // The gateway takes no bytes for this photo any more: it has ended, or is gone.
      throw error;
    }
  };
  for (let sendings = 1; ; sendings += 1) {
    try {
      await putRepeatedly({
        body: file,
        signal,
        urlOf,
        onProgress,
        hasArrived,
        ...(upload.put === undefined ? {} : { put: upload.put }),
        ...(again.pause === undefined ? {} : { pause: again.pause }),
      });
    } catch (error) {
      if (!(error instanceof StoreError) || error.kind !== "there") throw error;
    }
    onProgress(file.size);
    try {
      await finalize(again);
      return;
    } catch (error) {
      if (!isMissing(error) || sendings >= SENDINGS) throw error;
    }
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.reason === "OBJECT_MISSING";
}
