/** Log in, log out, and the session of this browser. */
import createClient from "openapi-fetch";
import { type Api, answerOf } from "./client";
import { NetworkError } from "./errors";
import type { CredentialsBody, SessionView, UserView, paths } from "./schema";
import type { SessionKeeper } from "./sessionKeeper";

export { createSession, type SessionKeeper, type SessionState } from "./sessionKeeper";
export type { CredentialsBody, UserView };

const TIMEOUT_MS = 30_000;

/**
 * Register, and log in.
 *
 * @throws `ApiError` BAD_EMAIL, BAD_PASSWORD, RATE_LIMITED, LOGIN_BUSY, ACCOUNTS_DISABLED;
 * `NetworkError`. So do the others.
 */
export function register(session: SessionKeeper, credentials: CredentialsBody): Promise<UserView> {
  return adopted(
    session,
    publicClient(session.baseUrl).POST("/api/auth/register", {
      body: credentials,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }),
  );
}

/** @throws `ApiError` WRONG_CREDENTIALS. */
export function logIn(session: SessionKeeper, credentials: CredentialsBody): Promise<UserView> {
  return adopted(
    session,
    publicClient(session.baseUrl).POST("/api/auth/login", {
      body: credentials,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }),
  );
}

/** Log in by the one-time link that the server printed. @throws `ApiError` LINK_ENDED. */
export function logInByLink(session: SessionKeeper, link: string): Promise<UserView> {
  return adopted(
    session,
    publicClient(session.baseUrl).POST("/api/auth/link", {
      body: { link },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }),
  );
}

/** The token of a link's fragment, `#login=slk_…`; null without one. */
export function linkOf(fragment: string): string | null {
  const link = new URLSearchParams(fragment.replace(/^#/, "")).get("login");
  return link?.startsWith("slk_") === true ? link : null;
}

/** End the session everywhere in this browser, and at the gateway as soon as that is reached. */
export async function logOut(session: SessionKeeper): Promise<void> {
  const refreshToken = session.end();
  if (refreshToken === null) return;
  await reached(
    publicClient(session.baseUrl).POST("/api/auth/logout", {
      body: { refreshToken },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }),
  );
}

/** Who is logged in; of a gateway without keys its local user, without an email. */
export function currentUser(api: Api, signal?: AbortSignal): Promise<UserView> {
  return answerOf(api.GET("/api/auth/me", signal === undefined ? {} : { signal }));
}

async function adopted(
  session: SessionKeeper,
  call: Promise<{ data?: SessionView; error?: unknown; response: Response }>,
): Promise<UserView> {
  const view = await reached(call);
  session.adopt(view);
  return view.user;
}

/** As `answerOf`, of calls without a token. */
export async function reached<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  try {
    return await answerOf(call);
  } catch (error) {
    if (error instanceof DOMException) throw new NetworkError(true, { cause: error });
    if (error instanceof TypeError) throw new NetworkError(false, { cause: error });
    throw error;
  }
}

function publicClient(baseUrl: string) {
  return createClient<paths>({ baseUrl });
}
