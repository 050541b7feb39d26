/** Errors of calls to the gateway. Match on `reason`: texts may change (docs/gateway.md). */

/** A field that the gateway refused, such as `files.3.filename`. */
export interface FieldProblem {
  readonly field: string;
  readonly detail: string;
}

/** An answer that is an error: problem details (RFC 9457), or what a proxy made of it. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    /** A stable word; `HTTP_502` and the like where something else than the gateway answered. */
    readonly reason: string,
    readonly detail: string | null,
    /** Seconds after which a repeat makes sense; null if the answer does not say. */
    readonly retryAfterSeconds: number | null,
    readonly metadata: Readonly<Record<string, string>> = {},
    readonly fields: readonly FieldProblem[] = [],
  ) {
    super(detail === null ? reason : `${reason}: ${detail}`);
  }

  /** Of an answer and its parsed body, which may be anything. */
  static of(response: Response, body: unknown): ApiError {
    const problem = isRecord(body) ? body : {};
    return new ApiError(
      response.status,
      textOf(problem["reason"]) ?? `HTTP_${response.status}`,
      textOf(problem["detail"]),
      numberOf(problem["retryAfterSeconds"]) ?? retryAfterOf(response.headers.get("retry-after")),
      textsOf(problem["metadata"]),
      fieldsOf(problem["errors"]),
    );
  }

  /** Whether the same call may succeed later without anybody doing anything. */
  get isTemporary(): boolean {
    return TEMPORARY.has(this.status) || this.reason === "REQUEST_IN_PROGRESS";
  }
}

const TEMPORARY: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504]);

/** No answer: the network is down, the server does not answer, or it took too long. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";

  constructor(
    readonly isTimeout = false,
    options?: ErrorOptions,
  ) {
    super(
      isTimeout ? "The server did not answer in time." : "The server was not reached.",
      options,
    );
  }
}

/** Whether this is the abort of a signal by its owner, which is no failure. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** Seconds of a `Retry-After` header, in either form; null without one. */
export function retryAfterOf(header: string | null, now = Date.now()): number | null {
  if (header === null || header.trim() === "") return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}

function textsOf(value: unknown): Record<string, string> {
  if (!isRecord(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter(
      (entry): entry is [string, string] => typeof entry[1] === "string",
    ),
  );
}

function fieldsOf(value: unknown): FieldProblem[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((each: unknown) => {
    if (!isRecord(each) || typeof each["field"] !== "string") return [];
    return [{ field: each["field"], detail: textOf(each["detail"]) ?? "" }];
  });
}
