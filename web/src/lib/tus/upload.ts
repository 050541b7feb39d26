/** Photos by tus (docs/tus.md): for files above a setting, where a bad line breaks often. */
import type { DetailedError } from "tus-js-client";
import type { Session } from "@/lib/api/session";
import { ApiError, NetworkError } from "@/lib/api/errors";

export interface TusUpload {
  /** URL at which uploads are created, such as `/files/` of the gateway. */
  readonly endpoint: string;
  readonly session: Session;
  readonly photoId: string;
  readonly file: Blob;
  /** Of an upload that is under way; null for a new one. */
  readonly uploadUrl: string | null;
  readonly signal: AbortSignal;
  readonly onProgress: (bytesSent: number) => void;
  /** To keep it: the upload goes on there after a reload. */
  readonly onUrl: (url: string) => void;
}

/** Reasons for which the upload itself is over, so that another one is created. */
const GONE: ReadonlySet<number> = new Set([404, 410]);
const RECREATIONS = 2;

/**
 * Resolves when the gateway has all bytes; the photo needs no finalization.
 *
 * @throws `ApiError`; `NetworkError`; `SessionEnded`; `AbortError` of the signal.
 */
export async function sendByTus(upload: TusUpload): Promise<void> {
  let url = upload.uploadUrl;
  let mustRenew = false;
  for (let failures = 0; ; failures += 1) {
    try {
      await once(upload, url, mustRenew);
      return;
    } catch (error) {
      if (!(error instanceof ApiError) || failures >= RECREATIONS) throw error;
      if (error.status === 401) mustRenew = true;
      else if (GONE.has(error.status) && url !== null && error.reason !== "PHOTO_NOT_FOUND") {
        url = null;
      } else if (error.reason !== "UPLOAD_OFFSET_MISMATCH") throw error;
    }
  }
}

async function once(upload: TusUpload, url: string | null, mustRenew: boolean): Promise<void> {
  const { endpoint, session, photoId, file, signal, onProgress, onUrl } = upload;
  // Loaded when it is needed: most people never send a file this way.
  const tus = await import("tus-js-client");
  let renew = mustRenew;
  await new Promise<void>((resolve, reject) => {
    const sender = new tus.Upload(file, {
      endpoint,
      uploadUrl: url,
      metadata: { photoId },
      // Repeats are the engine's, and where an upload goes on is kept with its file.
      retryDelays: null,
      storeFingerprintForResuming: false,
      removeFingerprintOnSuccess: false,
      onBeforeRequest: async (request) => {
        const token = await session.token(renew ? { renew } : undefined);
        renew = false;
        if (token !== null) request.setHeader("Authorization", `Bearer ${token}`);
      },
      onProgress: (bytes) => {
        onProgress(Math.min(bytes, file.size));
      },
      onUploadUrlAvailable: () => {
        if (sender.url !== null) onUrl(sender.url);
      },
      onSuccess: () => {
        signal.removeEventListener("abort", stop);
        resolve();
      },
      onError: (error) => {
        signal.removeEventListener("abort", stop);
        reject(failureOf(error));
      },
    });
    const stop = () => {
      void sender.abort(false).catch(() => undefined);
      reject(new DOMException("Aborted", "AbortError"));
    };
    if (signal.aborted) {
      stop();
      return;
    }
    signal.addEventListener("abort", stop, { once: true });
    sender.start();
  });
}

function failureOf(error: Error | DetailedError): Error {
  if (!("originalResponse" in error)) return error;
  const answer = error.originalResponse;
  if (answer === null || answer.getStatus() === 0) {
    // A token that could not be had arrives here too, as the cause.
    return error.causingError instanceof Error && error.causingError.name === "SessionEnded"
      ? error.causingError
      : new NetworkError(false, { cause: error });
  }
  let body: unknown = null;
  try {
    body = JSON.parse(answer.getBody());
  } catch {
    // Not the gateway's own answer, which is always JSON.
  }
  const retryAfter = answer.getHeader("Retry-After");
  const headers = new Headers(retryAfter === undefined ? {} : { "retry-after": retryAfter });
  return ApiError.of(new Response(null, { status: answer.getStatus(), headers }), body);
}
