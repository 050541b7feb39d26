/** What the three ways have in common: one attempt, and what comes of it. */
import type { IStompSocket } from "@stomp/stompjs";
import type { ProgressUpdate } from "./types";

/** Why an attempt, or a connection, ended. */
export interface End {
  /**
   * `lost`: not connected, or broken off. `refused`: repeating the same does not help.
   * `token`: come back with another token. `restart`: the replica stops. `again`: come back at
   * once; what stood in the way is gone.
   */
  readonly kind: "lost" | "refused" | "token" | "restart" | "again";
  /** Milliseconds that the server asked for; null if it did not. */
  readonly retryAfterMs: number | null;
}

export const LOST: End = { kind: "lost", retryAfterMs: null };

/** Takes what an attempt brings. */
export interface Feed {
  /** Updates arrive this way from now on. */
  onUp(): void;
  /** Called once, and nothing after it. */
  onDown(end: End): void;
  /** All photos of the job. `cursor`: the sequence to resume after; null if there is none. */
  onSnapshot(jobId: string, updates: readonly ProgressUpdate[], cursor: number | null): void;
  onChange(update: ProgressUpdate): void;
  onGone(jobId: string): void;
}

/** The jobs to follow, and what was seen of them. */
export interface Followed {
  /** Ids in the order in which they were followed. */
  ids(): readonly string[];
  /** Sequence to resume after; null to begin with a snapshot. */
  cursor(jobId: string): number | null;
  /** Whether the job's last known state is an end. */
  hasEnded(jobId: string): boolean;
}

/** An attempt or a connection. After `stop` its feed is not called any more. */
export interface Attempt {
  follow(jobId: string): void;
  unfollow(jobId: string): void;
  /** Make sure that the connection lives. */
  wake(): void;
  stop(): void;
}

export type OpenTransport = (followed: Followed, feed: Feed) => Attempt;

/** A WebSocket, or what a test has in its place. */
export interface LiveSocket extends IStompSocket {
  addEventListener(type: "message", listener: () => void): void;
}

/** What the ways use of the browser; tests give their own. */
export interface LiveEnvironment {
  /** Milliseconds; need not be the time of day. */
  now(): number;
  random(): number;
  setTimer(run: () => void, ms: number): number;
  clearTimer(timer: number): void;
  fetch(url: string, init: RequestInit): Promise<Response>;
  openSocket(url: string, protocol: string): LiveSocket;
  isHidden(): boolean;
  isOnline(): boolean;
  /** Call when the page becomes visible or the network changes; returns how to end that. */
  onWake(run: () => void): () => void;
}

/** Gets tokens; see `LiveOptions.token`. */
export type TokenSource = (options?: { readonly renew: boolean }) => Promise<string | null>;

/** What each way needs. */
export interface TransportContext {
  readonly baseUrl: string;
  readonly environment: LiveEnvironment;
  /** A token for the next attempt. Rejects when nobody is logged in any more. */
  token(): Promise<string | null>;
}

/** Feed that is silent after its first `onDown`, and after `close`. */
export function endOnce(feed: Feed, onEnd: () => void): Feed & { close(): void } {
  let isOpen = true;
  const whileOpen =
    <Arguments extends readonly unknown[]>(run: (...given: Arguments) => void) =>
    (...given: Arguments): void => {
      if (isOpen) run(...given);
    };
  const close = (): void => {
    if (!isOpen) return;
    isOpen = false;
    onEnd();
  };
  return {
    onUp: whileOpen(() => {
      feed.onUp();
    }),
    onDown: whileOpen((end: End) => {
      close();
      feed.onDown(end);
    }),
    onSnapshot: whileOpen(
      (jobId: string, updates: readonly ProgressUpdate[], cursor: number | null) => {
        feed.onSnapshot(jobId, updates, cursor);
      },
    ),
    onChange: whileOpen((update: ProgressUpdate) => {
      feed.onChange(update);
    }),
    onGone: whileOpen((jobId: string) => {
      feed.onGone(jobId);
    }),
    close,
  };
}
