/** The session of this browser, for components. */
import { createContext, useContext, useSyncExternalStore } from "react";
import { useQuery } from "@tanstack/react-query";
import {
  type SessionKeeper,
  type SessionState,
  type UserView,
  currentUser,
  logOut,
} from "@/lib/api/auth";
import { createApi } from "@/lib/api/client";

const Context = createContext<SessionKeeper | null>(null);

export const SessionProvider = Context.Provider;

/** Raises `Error` outside of a `SessionProvider`. */
export function useSession(): SessionKeeper {
  const session = useContext(Context);
  if (session === null) throw new Error("There is no session around; wrap it in SessionProvider.");
  return session;
}

/** How a session ended that was open in this page. `unreached`: left, but the gateway was not told. */
export type SessionEnd = "ended" | "left" | "unreached";

const LeaveContext = createContext<(end: SessionEnd) => void>(() => undefined);

export const LeaveProvider = LeaveContext.Provider;

/** Log out, here and in all other tabs. */
export function useLogOut(): () => Promise<void> {
  const session = useSession();
  const leave = useContext(LeaveContext);
  return async () => {
    leave("left");
    try {
      await logOut(session);
    } catch {
      leave("unreached"); // said on the log-in page: the tokens of this browser are gone anyway
    }
  };
}

/** Whether somebody is logged in; changes in all tabs at once. */
export function useSessionState(): SessionState {
  const session = useSession();
  return useSyncExternalStore(
    (listener) => session.subscribe(listener),
    () => session.getState(),
  );
}

/** Of the query for who is logged in. */
export const USER_KEY = ["user"] as const;

/** The query for who is logged in, which waits until somebody is. */
export function useUserQuery() {
  const session = useSession();
  const state = useSessionState();
  return useQuery({
    queryKey: USER_KEY,
    queryFn: ({ signal }) => currentUser(createApi(session.baseUrl, session), signal),
    enabled: state === "logged-in" || state === "keyless",
    staleTime: Infinity,
  });
}

/** Who is logged in; null while that is unknown. */
export function useCurrentUser(): UserView | null {
  return useUserQuery().data ?? null;
}
