/**
 * What a page begins with while its components are on their way: the session, and who is logged
 * in. Two requests, one after the other, so they must not wait for the larger download.
 */
import { takeLoginLink } from "@/components/auth/loginLink";
import { askFirstUser } from "@/firstUser";
import { createSession, currentUser } from "@/lib/api/auth";
import { createApi } from "@/lib/api/client";

/** The page comes from the gateway itself. */
export const BASE_URL = "";

// Before anything else reads or keeps the address: it may hold the secret of a log-in link.
export const link = takeLoginLink();

export const session = createSession({ baseUrl: BASE_URL });
export const api = createApi(BASE_URL, session);

/** Who is logged in already; null with a log-in link, which comes before any other session. */
export const firstUser = link === null ? askFirstUser(session, () => currentUser(api)) : null;
