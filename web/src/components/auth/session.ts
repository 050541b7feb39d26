/** The session of this browser, for components. */
import { createContext, useContext, useSyncExternalStore } from "react";
import { useQuery } from "@tanstack/react-query";
import { type SessionKeeper, type SessionState, type UserView, currentUser } from "@/lib/api/auth";
import { createApi } from "@/lib/api/client";

const Context = createContext<SessionKeeper | null>(null);

export const SessionProvider = Context.Provider;

/** Raises `Error` outside of a `SessionProvider`. */
export function useSession(): SessionKeeper {
  const session = useContext(Context);
  if (session === null) throw new Error("There is no session around; wrap it in SessionProvider.");
  return session;
}

/** Whether somebody is logged in; changes in all tabs at once. */
export function useSessionState(): SessionState {
  const session = useSession();
  return useSyncExternalStore(
    (listener) => session.subscribe(listener),
    () => session.getState(),
  );
}

/** Who is logged in; null while that is unknown. */
export function useCurrentUser(): UserView | null {
  const session = useSession();
  const state = useSessionState();
  const query = useQuery({
    queryKey: ["user"],
    queryFn: ({ signal }) => currentUser(createApi(session.baseUrl, session), signal),
    enabled: state === "logged-in" || state === "keyless",
    staleTime: Infinity,
  });
  return query.data ?? null;
}
