import type { QueryClient } from "@tanstack/react-query";
import { USER_KEY } from "@/components/auth/session";
import type { SessionKeeper } from "@/lib/api/auth";
import type { FirstUser } from "@/firstUser";

/** Begin with the early answer, and forget who it was with each end of a session. */
export function prepareUserQuery(
  queries: QueryClient,
  session: Pick<SessionKeeper, "getState" | "subscribe">,
  first: FirstUser | null,
): void {
  session.subscribe(() => {
    // The view has no end of its own, and the next session may be of somebody else.
    if (session.getState() === "logged-out") queries.removeQueries({ queryKey: USER_KEY });
  });
  const answer = first?.answer() ?? null;
  if (answer === null) return;
  queries.query({ queryKey: USER_KEY, queryFn: () => answer }).catch(() => {
    // Of nobody, or of a gateway that is not there: asked again when somebody is logged in.
  });
}
