/**
 * The session of this browser: one for all of its tabs.
 *
 * A refresh token works once, and a second use ends the session. So tabs renew one after the
 * other, each with the token that the one before has stored, and share the access token.
 */
import { ApiError, NetworkError, isRecord } from "./errors";
import type { SessionView } from "./schema";
import { type Session, SessionEnded } from "./session";
import { type TabLock, locksOrNull, tabLock } from "./tabLock";

/** `unknown` until the first token is asked for; `keyless`: the gateway needs no tokens. */
export type SessionState = "unknown" | "keyless" | "logged-in" | "logged-out";

export interface SessionKeeper extends Session {
  readonly baseUrl: string;
  getState(): SessionState;
  subscribe(listener: () => void): () => void;
  /** Take the tokens of a log-in. */
  adopt(view: SessionView): void;
  /** Forget all tokens, in all tabs. Returns the refresh token, to end it at the gateway. */
  end(): string | null;
}

/** The part of `BroadcastChannel` that is used. */
export interface Channel {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent<unknown>) => void) | null;
}

export interface SessionDeps {
  readonly baseUrl: string;
  /** Null where the browser refuses one: the session then ends with the page. */
  readonly storage?: Storage | null;
  readonly lock?: TabLock;
  readonly channel?: Channel | null;
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
  readonly now?: () => number;
  readonly sleep?: (milliseconds: number) => Promise<void>;
}

interface Access {
  readonly token: string;
  /** Milliseconds since 1970, by this machine's clock. */
  readonly endsAt: number;
}

const NAME = "sluice.session";
const KEY = "sluice.refreshToken";
/** A token that is handed out is valid for half a minute or more. */
const RESERVE_MS = 30_000;
const TIMEOUT_MS = 20_000;
/** Other tabs see a stored token a moment later, so the lock is kept until they do. */
const SETTLE_MS = 100;
/** How long a tab that waited for another one's renewal waits for its message. */
const MESSAGE_MS = 1000;

export function createSession(deps: SessionDeps): SessionKeeper {
  return new Keeper(deps);
}

class Keeper implements SessionKeeper {
  readonly baseUrl: string;
  private readonly storage: Storage | null;
  private readonly lock: TabLock;
  private readonly channel: Channel | null;
  private readonly send: (url: string, init: RequestInit) => Promise<Response>;
  private readonly now: () => number;
  private readonly sleep: (milliseconds: number) => Promise<void>;
  private readonly listeners = new Set<() => void>();
  private state: SessionState = "unknown";
  private access: Access | null = null;
  /** Where there is no storage. */
  private kept: string | null = null;
  private renewal: Promise<string | null> | null = null;
  /** This tab itself keeps the lock for a moment after a renewal. */
  private isSettling = false;

  constructor(deps: SessionDeps) {
    this.baseUrl = deps.baseUrl;
    this.storage = deps.storage === undefined ? localStorageOrNull() : deps.storage;
    this.lock = deps.lock ?? tabLock(NAME, locksOrNull(), this.storage);
    this.channel = deps.channel === undefined ? channelOrNull() : deps.channel;
    this.send = deps.fetch ?? ((url, init) => fetch(url, init));
    this.now = deps.now ?? Date.now;
    this.sleep = deps.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    if (this.channel !== null) {
      this.channel.onmessage = (event) => {
        this.hear(event.data);
      };
    }
  }

  getState(): SessionState {
    return this.state;
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  async token(options?: { readonly renew: boolean }): Promise<string | null> {
    const mustRenew = options?.renew === true;
    if (!mustRenew) {
      if (this.state === "keyless") return null;
      const usable = this.usable();
      if (usable !== null) return usable;
    }
    const refused = mustRenew ? (this.access?.token ?? null) : null;
    this.renewal ??= this.renew(refused).finally(() => {
      this.renewal = null;
    });
    return this.renewal;
  }

  adopt(view: SessionView): void {
    this.store(view.refreshToken);
    this.take(this.accessOf(view));
    this.tellOthers({ type: "token", ...this.access });
  }

  end(): string | null {
    const refreshToken = this.refreshToken();
    this.forget();
    this.tellOthers({ type: "ended" });
    return refreshToken;
  }

  /** @param refused - a token that the gateway did not take: another one is needed. */
  private async renew(refused: string | null): Promise<string | null> {
    if (this.refreshToken() === null) return this.withoutSession();
    const isOwnLock = this.isSettling;
    return new Promise((resolve, reject) => {
      // The callers get their token at once; the lock stays until other tabs can see the new one.
      this.lock
        .run(async (waited) => {
          if (waited && !isOwnLock) await this.awaitMessage(refused);
          const usable = this.usable();
          if (usable !== null && usable !== refused) {
            resolve(usable);
            return;
          }
          const refreshToken = this.refreshToken();
          if (refreshToken === null) throw new SessionEnded("The session was ended elsewhere.");
          resolve(await this.exchange(refreshToken));
          this.isSettling = true;
          await this.sleep(SETTLE_MS);
          this.isSettling = false;
        })
        .catch((error: unknown) => {
          reject(error instanceof Error ? error : new Error(String(error)));
        });
    });
  }

  private async exchange(refreshToken: string): Promise<string> {
    const response = await this.request("/api/auth/refresh", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ refreshToken }),
    });
    const body: unknown = await response.json().catch(() => null);
    if (response.status === 401 || response.status === 501) {
      this.end();
      throw new SessionEnded(ApiError.of(response, body).reason);
    }
    if (!response.ok) throw ApiError.of(response, body);
    if (!isTokens(body)) throw new NetworkError();
    this.store(body.refreshToken);
    const access = this.accessOf(body);
    this.take(access);
    this.tellOthers({ type: "token", ...access });
    return access.token;
  }

  /** Without tokens: a gateway without keys needs none. Not by `me`: a 401 is in the console. */
  private async withoutSession(): Promise<null> {
    const response = await this.request("/api/auth/access", { method: "GET" });
    const body: unknown = await response.json().catch(() => null);
    if (!response.ok) throw ApiError.of(response, body);
    if (isRecord(body) && body["needsToken"] === false) {
      this.setState("keyless");
      return null;
    }
    this.setState("logged-out");
    throw new SessionEnded("NO_CREDENTIALS");
  }

  private async request(path: string, init: RequestInit): Promise<Response> {
    const deadline = AbortSignal.timeout(TIMEOUT_MS);
    try {
      return await this.send(this.baseUrl + path, { ...init, signal: deadline });
    } catch (error) {
      throw new NetworkError(deadline.aborted, { cause: error });
    }
  }

  /** Wait until the tab that renewed has sent its token here. */
  private async awaitMessage(refused: string | null): Promise<void> {
    for (let waited = 0; waited < MESSAGE_MS; waited += SETTLE_MS) {
      const usable = this.usable();
      if ((usable !== null && usable !== refused) || this.refreshToken() === null) return;
      await this.sleep(SETTLE_MS);
    }
  }

  private hear(message: unknown): void {
    if (!isRecord(message)) return;
    if (message["type"] === "ended") this.forget();
    const { token, endsAt, type } = message;
    if (type === "token" && typeof token === "string" && typeof endsAt === "number") {
      this.take({ token, endsAt });
    }
  }

  private usable(): string | null {
    const access = this.access;
    return access !== null && access.endsAt - this.now() > RESERVE_MS ? access.token : null;
  }

  private accessOf(view: { readonly token: string; readonly expiresIn: number }): Access {
    return { token: view.token, endsAt: this.now() + 1000 * view.expiresIn };
  }

  private take(access: Access): void {
    this.access = access;
    this.setState("logged-in");
  }

  private forget(): void {
    this.access = null;
    this.kept = null;
    attempt(() => this.storage?.removeItem(KEY));
    this.setState("logged-out");
  }

  private refreshToken(): string | null {
    return attempt(() => this.storage?.getItem(KEY) ?? null) ?? this.kept;
  }

  private store(refreshToken: string): void {
    const isStored = attempt(() => {
      this.storage?.setItem(KEY, refreshToken);
      return this.storage !== null;
    });
    this.kept = isStored === true ? null : refreshToken;
  }

  private tellOthers(message: object): void {
    attempt(() => this.channel?.postMessage(message));
  }

  private setState(state: SessionState): void {
    if (this.state === state) return;
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}

interface Tokens {
  readonly token: string;
  readonly refreshToken: string;
  readonly expiresIn: number;
}

function isTokens(body: unknown): body is Tokens {
  return (
    isRecord(body) &&
    typeof body["token"] === "string" &&
    typeof body["refreshToken"] === "string" &&
    typeof body["expiresIn"] === "number"
  );
}

/** Null instead of an error: a storage may be full or forbidden, a channel closed. */
function attempt<T>(action: () => T): T | null {
  try {
    return action();
  } catch {
    return null;
  }
}

function localStorageOrNull(): Storage | null {
  return attempt(() => globalThis.localStorage);
}

function channelOrNull(): Channel | null {
  return attempt(() => new BroadcastChannel(NAME));
}
