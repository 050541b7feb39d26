/** Sends the bytes of one upload, and decides what follows when that fails. */
import { ApiError, isAbort } from "@/lib/api/errors";
import type { RepeatOptions } from "@/lib/api/repeat";
import type { Session } from "@/lib/api/session";
import type { UploadCalls } from "@/lib/api/upload";
import { sendMultipart } from "@/lib/s3/multipart";
import type { PartPool } from "@/lib/s3/partPool";
import { type PutOptions, StoreError, put as putBlob } from "@/lib/s3/put";
import { sendSingle } from "@/lib/s3/single";
import { sendByTus } from "@/lib/tus/upload";
import type { UploadFailure, UploadItem } from "@/stores/uploadTypes";
import { type Backoff, delayOf } from "./backoff";
import type { EngineCore, Work } from "./core";
import { type Decision, decide, failureOf } from "./decisions";
import { Limiter } from "./limiter";
import { strategyWithoutTus } from "./precheck";

export interface SenderDeps {
  readonly core: EngineCore;
  readonly calls: UploadCalls;
  readonly session: Session;
  readonly baseUrl: string;
  readonly pool: PartPool;
  readonly partsPerFile: number;
  readonly crc32c: ((blob: Blob) => Promise<number>) | null;
  readonly onNetworkError: () => void;
  readonly onSessionEnded: () => void;
  /** The gateway's parts of the upload have ended: another attempt. */
  readonly onRetry: (id: string) => void;
  readonly onTusUrl: (id: string) => void;
  /** It never arrives: the gateway need not wait for it. */
  readonly onFailedForGood: (photoId: string) => void;
  readonly put?: typeof putBlob;
  readonly repeat?: RepeatOptions;
  readonly now?: () => number;
}

export const SEND_BACKOFF: Backoff = { baseMs: 1000, capMs: 15_000 };
/** Failures in a row, other than of the network, after which a person has to decide. */
const MAX_FAILURES = 30;
/** New attempts of one photo that nobody asked for. */
const MAX_RETRIES = 2;

/**
 * Uploads at once to the gateway's own origin, to which a browser opens six connections: its other
 * calls have to get through.
 */
const ON_OWN_ORIGIN = 3;

export class Sender {
  private readonly now: () => number;
  private readonly ownOrigin = new Limiter(ON_OWN_ORIGIN);

  constructor(private readonly deps: SenderDeps) {
    this.now = deps.now ?? Date.now;
  }

  /** Send it until it has arrived, has failed, or was interrupted. Never rejects. */
  async send(id: string): Promise<void> {
    const { core } = this.deps;
    const work = core.works.get(id);
    const item = core.item(id);
    if (work === undefined || item?.phase !== "waiting" || item.photoId === null) return;
    const controller = new AbortController();
    work.controller = controller;
    core.dispatch({ type: "entered", id, phase: "sending" });
    try {
      await this.transfer(item, item.photoId, work, controller.signal);
      if (!controller.signal.aborted) this.arrived(id);
    } catch (error) {
      if (!controller.signal.aborted && !isAbort(error)) this.settle(id, work, error);
    } finally {
      if (work.controller === controller) work.controller = null;
    }
  }

  private async transfer(
    item: UploadItem,
    photoId: string,
    work: Work,
    signal: AbortSignal,
  ): Promise<void> {
    const { core, calls, repeat } = this.deps;
    const { file, ticket } = work;
    if (file?.size !== item.size) throw new StoreError("unreadable", 0, null);
    // What the ticket says of parts holds for the first sending only.
    work.ticket = null;
    let most = 0;
    const common = {
      photoId,
      file,
      signal,
      onProgress: (bytes: number) => {
        if (signal.aborted) return;
        if (bytes > most) work.failures = 0;
        most = Math.max(most, bytes);
        core.dispatch({ type: "sent", id: item.id, bytes });
      },
      ...(repeat === undefined ? {} : { repeat }),
      put: (options: PutOptions) => this.put(options),
    };
    if (item.strategy === "tus") {
      await this.ownOrigin.run(async () => {
        signal.throwIfAborted();
        await sendByTus({
          ...common,
          endpoint: this.deps.baseUrl + (ticket?.item.presignedUrl ?? "/files/"),
          session: this.deps.session,
          uploadUrl: work.tusUrl,
          onUrl: (url) => {
            work.tusUrl = url;
            this.deps.onTusUrl(item.id);
          },
        });
      });
    } else if (item.strategy === "multipart") {
      await sendMultipart({
        ...common,
        calls,
        fresh: ticket?.item.multipart ?? null,
        pool: this.deps.pool,
        parallel: this.deps.partsPerFile,
        crc32c: this.deps.crc32c,
      });
    } else await sendSingle({ ...common, calls, ticket });
  }

  private put(options: PutOptions): Promise<void> {
    const send = this.deps.put ?? putBlob;
    if (!isSameOrigin(options.url, this.deps.baseUrl)) return send(options);
    return this.ownOrigin.run(() => {
      options.signal.throwIfAborted();
      return send(options);
    });
  }

  private arrived(id: string): void {
    const { core } = this.deps;
    core.dispatch({ type: "entered", id, phase: "processing" });
    core.release(id);
  }

  private settle(id: string, work: Work, error: unknown): void {
    const { core, onNetworkError, onSessionEnded, onRetry } = this.deps;
    const decision = this.limited(decide(error), work, error);
    switch (decision.next) {
      case "again":
        if (decision.isNetwork) onNetworkError();
        work.isAwaitingNetwork = decision.isNetwork;
        work.notBefore =
          this.now() + delayOf(work.failures, SEND_BACKOFF, decision.retryAfterSeconds);
        work.failures += 1;
        core.dispatch({ type: "entered", id, phase: "waiting" });
        return;
      case "log-in":
        core.dispatch({ type: "entered", id, phase: "waiting" });
        onSessionEnded();
        return;
      case "arrived":
        this.arrived(id);
        return;
      case "completed":
      case "cancelled":
        core.dispatch({ type: "entered", id, phase: decision.next });
        return;
      case "retry":
        work.retries += 1;
        onRetry(id);
        return;
      case "without-tus": {
        const strategy = strategyWithoutTus(core.item(id)?.size ?? 0, core.state.limits);
        core.dispatch(
          { type: "entered", id, phase: "waiting", bytesSent: 0 },
          { type: "unassigned", id, strategy },
        );
        return;
      }
      case "failed":
        this.fail(id, decision.failure);
    }
  }

  private fail(id: string, failure: UploadFailure): void {
    const { core, onFailedForGood } = this.deps;
    const photoId = core.item(id)?.photoId ?? null;
    core.dispatch({ type: "entered", id, phase: "failed", failure });
    if (failure.canRetry) return;
    core.release(id);
    if (photoId !== null) onFailedForGood(photoId);
  }

  /** What cannot go on for ever ends as a failure that a person can retry. */
  private limited(decision: Decision, work: Work, error: unknown): Decision {
    const isOver =
      (decision.next === "again" && !decision.isNetwork && work.failures >= MAX_FAILURES) ||
      (decision.next === "retry" && work.retries >= MAX_RETRIES);
    if (!isOver) return decision;
    const reason =
      error instanceof ApiError
        ? error.reason
        : error instanceof StoreError
          ? "STORE_UNAVAILABLE"
          : "NO_ANSWER";
    const detail = error instanceof ApiError ? error.detail : null;
    return { next: "failed", failure: { ...failureOf(reason, detail), canRetry: true } };
  }
}

/** Whether the store is behind the gateway's own address. */
export function isSameOrigin(url: string, baseUrl: string): boolean {
  const own = baseUrl === "" ? globalThis.location.origin : baseUrl;
  return URL.canParse(url, own) && new URL(url, own).origin === new URL(own).origin;
}
