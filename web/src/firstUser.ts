import type { SessionKeeper, UserView } from "@/lib/api/auth";

/** Who was logged in when the page came. */
export interface FirstUser {
  /** Null if that session has ended since: whoever is logged in now may be somebody else. */
  answer(): Promise<UserView> | null;
}

/** Ask at once. Whoever takes the answer handles its failure. */
export function askFirstUser(
  session: Pick<SessionKeeper, "getState" | "subscribe">,
  ask: () => Promise<UserView>,
): FirstUser {
  let hasEnded = false;
  // Another tab may log out, and somebody else in, before the components are here.
  session.subscribe(() => {
    hasEnded ||= session.getState() === "logged-out";
  });
  const asked = ask();
  asked.catch(() => undefined); // until somebody takes it, its failure is nobody's
  return { answer: () => (hasEnded ? null : asked) };
}
