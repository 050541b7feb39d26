import { QueryClient } from "@tanstack/react-query";
import { beforeEach, expect, test, vi } from "vitest";
import { USER_KEY } from "@/components/auth/session";
import type { SessionState, UserView } from "@/lib/api/auth";
import { askFirstUser } from "./firstUser";
import { prepareUserQuery } from "./userQuery";

const user = (userId: string): UserView => ({
  userId,
  email: `${userId}@example.com`,
  createdAt: null,
  tenant: userId,
  scopes: [],
});

/** A session whose state other tabs change. */
function createFakeSession() {
  let state: SessionState = "logged-in";
  const listeners = new Set<() => void>();
  return {
    getState: () => state,
    subscribe: (listener: () => void) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    change(next: SessionState) {
      state = next;
      for (const listener of listeners) listener();
    },
  };
}

let session: ReturnType<typeof createFakeSession>;
let queries: QueryClient;
const known = () => queries.getQueryData<UserView>(USER_KEY)?.userId;

beforeEach(() => {
  session = createFakeSession();
  queries = new QueryClient();
});

test("the page begins with who was logged in when it came", async () => {
  const first = askFirstUser(session, () => Promise.resolve(user("ann")));
  prepareUserQuery(queries, session, first);
  await vi.waitFor(() => {
    expect(known()).toBe("ann");
  });
});

test("who has logged out before the components came is not taken for the next one", () => {
  const first = askFirstUser(session, () => Promise.resolve(user("ann")));
  session.change("logged-out");
  session.change("logged-in"); // as ben, in another tab
  expect(first.answer()).toBeNull();
  prepareUserQuery(queries, session, first);
  expect(queries.getQueryState(USER_KEY)).toBeUndefined();
});

test("who logs out is forgotten, and so is an answer that is still under way", async () => {
  let resolve: (view: UserView) => void = () => undefined;
  const asked = new Promise<UserView>((done) => {
    resolve = done;
  });
  prepareUserQuery(
    queries,
    session,
    askFirstUser(session, () => asked),
  );
  session.change("logged-out");
  session.change("logged-in");
  resolve(user("ann"));
  await asked;
  await Promise.resolve();
  expect(known()).toBeUndefined();
  queries.setQueryData(USER_KEY, user("ben"));
  session.change("logged-out");
  expect(known()).toBeUndefined();
});

test("a failure of the early answer is left to the query", async () => {
  const failure = new Error("The server was not reached.");
  prepareUserQuery(
    queries,
    session,
    askFirstUser(session, () => Promise.reject(failure)),
  );
  await vi.waitFor(() => {
    expect(queries.getQueryState(USER_KEY)?.error).toBe(failure);
  });
});
