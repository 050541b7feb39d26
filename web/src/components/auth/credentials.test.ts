import { describe, expect, it } from "vitest";
import { ApiError, NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";
import { checkCredentials } from "./credentials";
import { takeLoginLink } from "./loginLink";
import { failureOf } from "./useLogIn";

describe("checkCredentials", () => {
  it.each([
    ["", "emailMissing"],
    ["  ", "emailMissing"],
    ["ann", "emailInvalid"],
    ["ann@", "emailInvalid"],
    ["a b@c", "emailInvalid"],
    [" ann@example.com ", null],
    ["jürgen@müller.example", null],
  ])("finds %j %s", (email, problem) => {
    expect(checkCredentials("logIn", email, "x").email).toBe(problem);
  });

  it("asks for eight characters where a password is chosen only", () => {
    expect(checkCredentials("register", "a@b", "🏔🏔🏔🏔").password).toBe("passwordShort");
    expect(checkCredentials("register", "a@b", "12345678").password).toBeNull();
    expect(checkCredentials("logIn", "a@b", "123").password).toBeNull();
    expect(checkCredentials("logIn", "a@b", "").password).toBe("passwordMissing");
    expect(checkCredentials("register", "a@b", "ä".repeat(513)).password).toBe("passwordLong");
  });
});

describe("failureOf", () => {
  const refused = (status: number, reason: string, seconds: number | null = null) =>
    new ApiError(status, reason, "…", seconds);

  it.each([
    [refused(401, "WRONG_CREDENTIALS"), "wrong"],
    [refused(501, "ACCOUNTS_DISABLED"), "disabled"],
    [refused(401, "LINK_ENDED"), "linkEnded"],
    [refused(502, "HTTP_502"), "network"],
    [new NetworkError(), "network"],
    [new SessionEnded("BAD_TOKEN"), "registerUnclear"],
    [new TypeError("x"), "unknown"],
  ])("names %s %s", (error, kind) => {
    expect(failureOf("register", error, 0).kind).toBe(kind);
  });

  it("waits as long as the gateway says", () => {
    const failure = failureOf("logIn", refused(429, "RATE_LIMITED", 12.5), 1000);
    expect(failure).toEqual({ kind: "rateLimited", until: 13_500 });
    expect(failureOf("logIn", refused(503, "LOGIN_BUSY"), 1000)).toEqual({
      kind: "busy",
      until: 2000,
    });
  });

  it("says which field was refused", () => {
    expect(failureOf("logIn", refused(422, "BAD_EMAIL"), 0)).toEqual({
      kind: "fields",
      problems: { email: "emailInvalid", password: null },
    });
  });
});

describe("takeLoginLink", () => {
  it("takes the link out of the address at once", () => {
    history.replaceState(null, "", "/photos?tag=a#login=slk_abc");
    expect(takeLoginLink()).toBe("slk_abc");
    expect(location.hash).toBe("");
    expect(location.href).toMatch(/\/photos\?tag=a$/u);
    expect(takeLoginLink()).toBeNull();
  });

  it("leaves other fragments alone", () => {
    history.replaceState(null, "", "/#content");
    expect(takeLoginLink()).toBeNull();
    expect(location.hash).toBe("#content");
  });
});
