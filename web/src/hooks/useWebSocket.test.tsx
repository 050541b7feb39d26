import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { renderHook } from "@testing-library/react";
import { StrictMode, type ReactNode } from "react";
import { expect, it } from "vitest";
import { RecordingListener, update } from "../../tests/live/updates";
import { useWebSocket } from "./useWebSocket";
import type { Session } from "@/lib/api/session";
import { createLiveRelay } from "@/lib/websocket/relay";
import type { LiveOptions, LiveUpdates } from "@/lib/websocket/types";

it("is connected while somebody is logged in and the page is there", async () => {
  const opened: LiveOptions[] = [];
  const followed: string[] = [];
  let live = 0;
  const create = (options: LiveOptions): LiveUpdates => {
    opened.push(options);
    live += 1;
    return {
      follow: (jobId) => followed.push(jobId),
      unfollow: () => undefined,
      wake: () => undefined,
      stop: () => {
        live -= 1;
      },
    };
  };
  const queries = new QueryClient();
  const wrapper = ({ children }: { readonly children: ReactNode }) => (
    <StrictMode>
      <QueryClientProvider client={queries}>{children}</QueryClientProvider>
    </StrictMode>
  );
  const relay = createLiveRelay();
  const listener = new RecordingListener();
  const session: Session = { token: (options) => Promise.resolve(options?.renew ? "new" : "old") };
  relay.follow("j1");
  const hook = renderHook(
    ({ of }: { readonly of: Session | null }) => {
      useWebSocket({ relay, listener, session: of, create });
    },
    { wrapper, initialProps: { of: null as Session | null } },
  );
  expect(opened).toHaveLength(0);
  hook.rerender({ of: session });
  expect(live).toBe(1);
  expect(followed.at(-1)).toBe("j1");
  const options = opened.at(-1);
  expect(options?.baseUrl).toBe(window.location.origin);
  expect(await options?.token({ renew: true })).toBe("new");
  options?.listener.onChange(update());
  expect(listener.changes).toHaveLength(1);
  const connections = opened.length;
  hook.rerender({ of: session });
  expect(opened).toHaveLength(connections);
  hook.rerender({ of: null });
  expect(live).toBe(0);
  hook.rerender({ of: session });
  hook.unmount();
  expect(live).toBe(0);
});
