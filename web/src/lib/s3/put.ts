/** One PUT to a signed URL, with progress of the upload, which `fetch` does not have. */
import { isRecord, retryAfterOf } from "@/lib/api/errors";

/**
 * - `denied`: the URL has expired, or the bytes are not those that it was signed for: renew it.
 * - `checksum`: the bytes changed on their way: send them again.
 * - `gone`: the multipart is completed, aborted or expired: ask the gateway.
 * - `there`: an object is there, and the URL replaces none: a former PUT of it had arrived.
 * - `exists`: the object is there with other bytes.
 * - `busy`: not now. `network`: no answer. `unreadable`: the file was changed, moved or deleted.
 * - `refused`: anything else; a repeat would not help.
 */
export type StoreFailure =
  | "denied"
  | "checksum"
  | "gone"
  | "there"
  | "exists"
  | "busy"
  | "network"
  | "unreadable"
  | "refused";

/** A PUT that the store did not take. */
export class StoreError extends Error {
  override readonly name = "StoreError";

  constructor(
    readonly kind: StoreFailure,
    /** 0 without an answer. */
    readonly status: number,
    /** Of the store: a reason of the gateway, or a code of S3. */
    readonly reason: string | null,
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(`The store did not take the bytes: ${kind} ${reason ?? status}`);
  }
}

export interface PutOptions {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Blob;
  readonly signal: AbortSignal;
  /** Bytes handed over to the network so far; it runs ahead of what the store has. */
  readonly onProgress: (bytes: number) => void;
  readonly newRequest?: () => XMLHttpRequest;
}

/**
 * Milliseconds without progress after which a PUT counts as dead. They count from its first
 * progress only: a browser keeps PUTs beyond six of an origin in a queue, as long as it takes.
 */
export const STALL_MS = 60_000;

/** Resolves when the store has the bytes. @throws `StoreError`; `AbortError` of the signal. */
export function put(options: PutOptions): Promise<void> {
  const { url, headers, body, signal, onProgress } = options;
  return new Promise<void>((resolve, reject) => {
    if (signal.aborted) {
      reject(aborted());
      return;
    }
    const request = options.newRequest?.() ?? new XMLHttpRequest();
    let stall: ReturnType<typeof setTimeout> | undefined;
    let isStalled = false;
    const stop = () => {
      request.abort();
    };
    const watch = () => {
      clearTimeout(stall);
      stall = setTimeout(() => {
        isStalled = true;
        request.abort();
      }, STALL_MS);
    };
    const end = (settle: () => void) => {
      clearTimeout(stall);
      signal.removeEventListener("abort", stop);
      request.upload.onprogress = null;
      settle();
    };
    request.upload.onprogress = (event) => {
      watch();
      onProgress(Math.min(event.loaded, body.size));
    };
    request.onload = () => {
      end(() => {
        if (request.status >= 200 && request.status < 300) resolve();
        else reject(refusalOf(request));
      });
    };
    request.onerror = () => {
      end(() => {
        // A file that was changed or deleted fails as if the network had.
        isReadable(body).then(
          (readable) => {
            reject(new StoreError(readable ? "network" : "unreadable", 0, null));
          },
          () => {
            reject(new StoreError("network", 0, null));
          },
        );
      });
    };
    request.onabort = () => {
      end(() => {
        reject(isStalled ? new StoreError("network", 0, "STALLED") : aborted());
      });
    };
    signal.addEventListener("abort", stop, { once: true });
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) {
      // The browser sets it, with the length of the body, and refuses ours.
      if (name.toLowerCase() !== "content-length") request.setRequestHeader(name, value);
    }
    // Without a type the browser would send the blob's own, which is not signed.
    request.send(typed(body, headers));
  });
}

/** Whether the first byte can be read: the file may have been changed, moved or deleted. */
export async function isReadable(body: Blob): Promise<boolean> {
  try {
    await body.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

function typed(body: Blob, headers: Readonly<Record<string, string>>): Blob {
  const isSet = Object.keys(headers).some((name) => name.toLowerCase() === "content-type");
  return isSet || body.type === "" ? body : body.slice(0, body.size, "");
}

function aborted(): DOMException {
  return new DOMException("Aborted", "AbortError");
}

function refusalOf(request: XMLHttpRequest): StoreError {
  const reason = reasonOf(request.responseText);
  const kind = kindOf(request.status, reason);
  // A header that CORS does not expose reads as null, after a warning in some consoles.
  const delay = kind === "busy" ? retryAfterOf(request.getResponseHeader("retry-after")) : null;
  return new StoreError(kind, request.status, reason, delay);
}

const CHECKSUM_REASONS: ReadonlySet<string> = new Set([
  "CHECKSUM_MISMATCH",
  "BAD_CHECKSUM",
  "BadDigest",
  "InvalidDigest",
  "XAmzContentChecksumMismatch",
  "XAmzContentSHA256Mismatch",
  "IncompleteBody",
  "RequestTimeout",
]);

export function kindOf(status: number, reason: string | null): StoreFailure {
  if (reason !== null && CHECKSUM_REASONS.has(reason)) return "checksum";
  if (reason === "NoSuchUpload" || reason === "MULTIPART_NOT_FOUND") return "gone";
  if (reason === "OBJECT_EXISTS") return "exists";
  if (status === 412) return "there";
  if (status === 403 || status === 401) return "denied";
  if (status === 404) return "gone";
  if ([408, 409, 425, 429, 460].includes(status) || status >= 500) return "busy";
  return "refused";
}

/** The reason of problem details, or the code of an S3 error; null of anything else. */
export function reasonOf(text: string): string | null {
  const code = /<Code>([A-Za-z0-9_.]{1,64})<\/Code>/.exec(text)?.[1];
  if (code !== undefined) return code;
  try {
    const body: unknown = JSON.parse(text);
    return isRecord(body) && typeof body["reason"] === "string" ? body["reason"] : null;
  } catch {
    return null;
  }
}
