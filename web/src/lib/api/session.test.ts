// @vitest-environment node
import { describe, expect, test, vi } from "vitest";
import { logIn, logInByLink, logOut, linkOf, register } from "./auth";
import { ApiError, NetworkError } from "./errors";
import { SessionEnded } from "./session";
import { type Channel, type SessionDeps, createSession } from "./sessionKeeper";
import { tabLock } from "./tabLock";

/** Tokens of a gateway, by its rules: each refresh token works once, a second use ends all. */
class Tokens {
  renewals = 0;
  isKeyless = false;
  isEnded = false;
  valid = "r0";
  delayMs = 0;
  private readonly used = new Set<string>();

  readonly fetch = async (url: string, init: RequestInit): Promise<Response> => {
    await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    if (url.endsWith("/api/auth/access")) return json(200, { needsToken: !this.isKeyless });
    const { refreshToken } = JSON.parse(typeof init.body === "string" ? init.body : "{}") as {
      refreshToken: string;
    };
    if (this.used.has(refreshToken)) this.isEnded = true;
    if (this.isEnded || refreshToken !== this.valid) return json(401, { reason: "SESSION_ENDED" });
    this.used.add(refreshToken);
    this.renewals += 1;
    this.valid = `r${this.renewals}`;
    return json(200, view(this.renewals));
  };
}

function view(number: number, expiresIn = 900) {
  return {
    token: `t${number}`,
    refreshToken: `r${number}`,
    tokenType: "Bearer",
    expiresIn,
    user: { userId: "u", email: "ann@example.com", createdAt: null, tenant: "u", scopes: [] },
  };
}

function json(status: number, body: unknown): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json" },
  });
}

/** What the tabs of one browser share. */
class Browser {
  readonly storage: Storage;
  readonly locks = new FakeLocks() as unknown as LockManager;
  private readonly channels: Channel[] = [];

  constructor(private readonly tokens: Tokens) {
    const values = new Map<string, string>();
    this.storage = {
      length: 0,
      clear: () => {
        values.clear();
      },
      key: () => null,
      getItem: (key) => values.get(key) ?? null,
      setItem: (key, value) => {
        values.set(key, value);
      },
      removeItem: (key) => {
        values.delete(key);
      },
    };
  }

  tab(more: Partial<SessionDeps> = {}) {
    const channel: Channel = {
      onmessage: null,
      postMessage: (data) => {
        for (const other of this.channels) {
          // Messages arrive later, as in browsers.
          if (other !== channel) setTimeout(() => other.onmessage?.({ data } as MessageEvent), 5);
        }
      },
    };
    this.channels.push(channel);
    return createSession({
      baseUrl: "https://gateway.test",
      storage: this.storage,
      lock: tabLock("test", this.locks),
      channel,
      fetch: this.tokens.fetch,
      ...more,
    });
  }
}

class FakeLocks {
  private last: Promise<unknown> = Promise.resolve();
  private held = 0;

  request(_name: string, ...rest: unknown[]): Promise<unknown> {
    const work = rest.at(-1) as (lock: unknown) => Promise<unknown>;
    const isOptional = rest.length > 1;
    if (isOptional && this.held > 0) return work(null);
    this.held += 1;
    const result = this.last.then(() => work({}));
    this.last = result
      .catch(() => undefined)
      .finally(() => {
        this.held -= 1;
      });
    return result;
  }
}

describe("a session", () => {
  test("many callers of one tab share one renewal", async () => {
    const tokens = new Tokens();
    const session = new Browser(tokens).tab();
    session.adopt(view(0, 0));
    const got = await Promise.all(Array.from({ length: 20 }, () => session.token()));
    expect(new Set(got)).toEqual(new Set(["t1"]));
    expect(tokens.renewals).toBe(1);
    expect(await session.token()).toBe("t1");
  });

  test("tabs renew one after the other and share the token", async () => {
    const tokens = new Tokens();
    tokens.delayMs = 5;
    const browser = new Browser(tokens);
    const tabs = Array.from({ length: 4 }, () => browser.tab());
    tabs[0]?.adopt(view(0, 0));
    const got = await Promise.all(tabs.map((tab) => tab.token()));
    expect(got).toEqual(["t1", "t1", "t1", "t1"]);
    expect(tokens.renewals).toBe(1);
    expect(tokens.isEnded).toBe(false);
  });

  test("without a channel each tab renews, and none uses a token twice", async () => {
    const tokens = new Tokens();
    const browser = new Browser(tokens);
    const quick = { channel: null, sleep: () => Promise.resolve() };
    const tabs = Array.from({ length: 3 }, () => browser.tab(quick));
    tabs[0]?.adopt(view(0, 0));
    const got = await Promise.all(tabs.map((tab) => tab.token()));
    expect(new Set(got).size).toBe(3);
    expect(tokens.isEnded).toBe(false);
  });

  test("a token that was refused is replaced", async () => {
    const tokens = new Tokens();
    const session = new Browser(tokens).tab();
    session.adopt(view(0));
    expect(await session.token()).toBe("t0");
    expect(await session.token({ renew: true })).toBe("t1");
    expect(await session.token()).toBe("t1");
  });

  test("its end is known in all tabs", async () => {
    const tokens = new Tokens();
    const browser = new Browser(tokens);
    const [one, two] = [browser.tab(), browser.tab()];
    one.adopt(view(0));
    await vi.waitFor(() => {
      expect(two.getState()).toBe("logged-in");
    });
    const heard = vi.fn();
    two.subscribe(heard);
    one.end();
    await vi.waitFor(() => {
      expect(two.getState()).toBe("logged-out");
    });
    expect(heard).toHaveBeenCalled();
    await expect(two.token()).rejects.toBeInstanceOf(SessionEnded);
  });

  test("ends when the gateway ends it", async () => {
    const tokens = new Tokens();
    const session = new Browser(tokens).tab();
    session.adopt(view(0, 0));
    tokens.isEnded = true;
    await expect(session.token()).rejects.toBeInstanceOf(SessionEnded);
    expect(session.getState()).toBe("logged-out");
  });

  test("stays when the gateway is not reached, or is busy", async () => {
    const tokens = new Tokens();
    const browser = new Browser(tokens);
    const session = browser.tab({ fetch: () => Promise.reject(new TypeError("offline")) });
    session.adopt(view(0, 0));
    await expect(session.token()).rejects.toBeInstanceOf(NetworkError);
    const busy = browser.tab({ fetch: () => Promise.resolve(json(503, { reason: "LOGIN_BUSY" })) });
    await expect(busy.token()).rejects.toBeInstanceOf(ApiError);
    expect(await browser.tab().token()).toBe("t1");
  });

  test("a gateway without keys needs no token, and is asked once", async () => {
    const tokens = new Tokens();
    tokens.isKeyless = true;
    const fetch = vi.fn(tokens.fetch);
    const session = new Browser(tokens).tab({ fetch });
    expect(await session.token()).toBeNull();
    expect(await session.token()).toBeNull();
    expect(session.getState()).toBe("keyless");
    expect(fetch).toHaveBeenCalledTimes(1);
  });

  test("with keys and without tokens somebody has to log in", async () => {
    const session = new Browser(new Tokens()).tab();
    await expect(session.token()).rejects.toBeInstanceOf(SessionEnded);
    expect(session.getState()).toBe("logged-out");
  });

  test("works in a browser that stores nothing", async () => {
    const refuse = () => {
      throw new DOMException("no", "SecurityError");
    };
    const { storage } = new Browser(new Tokens());
    Object.assign(storage, { getItem: refuse, setItem: refuse, removeItem: refuse });
    for (const given of [null, storage]) {
      const tokens = new Tokens();
      const session = new Browser(tokens).tab({ storage: given });
      session.adopt(view(0, 0));
      expect(await session.token()).toBe("t1");
      expect(await session.token({ renew: true })).toBe("t2");
    }
  });

  test("without Web Locks a lease keeps tabs apart", async () => {
    const tokens = new Tokens();
    const browser = new Browser(tokens);
    const tabs = Array.from({ length: 2 }, () =>
      browser.tab({ lock: tabLock("test", null, browser.storage) }),
    );
    tabs[0]?.adopt(view(0, 0));
    const got = await Promise.all(tabs.map((tab) => tab.token()));
    expect(got).toEqual(["t1", "t1"]);
    expect(tokens.isEnded).toBe(false);
  });
});

describe("log-in", () => {
  const opened = () => new Browser(new Tokens()).tab();
  const credentials = { email: "ann@example.com", password: "correct horse" };

  test.each([
    ["register", 201, (s: ReturnType<typeof opened>) => register(s, credentials)],
    ["login", 200, (s: ReturnType<typeof opened>) => logIn(s, credentials)],
    ["link", 200, (s: ReturnType<typeof opened>) => logInByLink(s, "slk_1")],
  ])("%s adopts the tokens", async (path, status, call) => {
    const fetch = vi
      .spyOn(globalThis, "fetch")
      .mockImplementation(() => Promise.resolve(json(status, view(0))));
    const session = opened();
    expect((await call(session)).email).toBe("ann@example.com");
    expect(await session.token()).toBe("t0");
    const request = fetch.mock.calls[0]?.[0];
    expect(request instanceof Request && request.url).toBe(`https://gateway.test/api/auth/${path}`);
  });

  test("a refusal has its reason, and no network its own error", async () => {
    const fetch = vi
      .spyOn(globalThis, "fetch")
      .mockImplementation(() => Promise.resolve(json(401, { reason: "WRONG_CREDENTIALS" })));
    await expect(logIn(opened(), credentials)).rejects.toMatchObject({
      name: "ApiError",
      reason: "WRONG_CREDENTIALS",
    });
    fetch.mockImplementation(() => Promise.reject(new TypeError("offline")));
    await expect(logIn(opened(), credentials)).rejects.toBeInstanceOf(NetworkError);
  });

  test("log-out forgets the tokens first", async () => {
    vi.spyOn(globalThis, "fetch").mockImplementation(() =>
      Promise.reject(new TypeError("offline")),
    );
    const session = opened();
    session.adopt(view(0));
    await expect(logOut(session)).rejects.toBeInstanceOf(NetworkError);
    expect(session.getState()).toBe("logged-out");
    await logOut(session);
  });

  test("the fragment of a link", () => {
    expect(linkOf("#login=slk_abc")).toBe("slk_abc");
    expect(linkOf("#login=abc")).toBeNull();
    expect(linkOf("")).toBeNull();
  });
});
