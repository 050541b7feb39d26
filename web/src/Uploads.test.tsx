import { act, cleanup, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { beforeEach, expect, test, vi } from "vitest";
import type { useUserQuery } from "@/components/auth/session";
import type * as uploadApi from "@/lib/api/upload";
import type { UploadEngine, UploadEngineDeps } from "@/lib/engine/engine";
import type { LiveOptions, LiveUpdates } from "@/lib/websocket/types";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import type { BatchEnd } from "@/stores/uploadTypes";
import { createFakeUploads } from "../dev/fakeUploads";
import { prepareBrowser } from "../tests/uploads";
import { Account, Uploads } from "./Uploads";

const created = vi.hoisted(() => ({ engine: null as UploadEngine | null, deps: [] as unknown[] }));
const connections = vi.hoisted(() => ({ open: [] as LiveOptions[], follow: vi.fn() }));
const limits = vi.hoisted(() => vi.fn());
const user = vi.hoisted((): { query: Partial<ReturnType<typeof useUserQuery>> } => ({ query: {} }));
const listeners = new Set<(end: BatchEnd) => void>();

vi.mock("@/lib/engine/engine", () => ({
  createUploadEngine: (deps: unknown) => {
    created.deps.push(deps);
    return created.engine;
  },
}));
vi.mock("@/lib/websocket/client", () => ({
  createLiveUpdates: (options: LiveOptions): LiveUpdates => {
    connections.open.push(options);
    return {
      follow: connections.follow,
      unfollow: () => undefined,
      wake: () => undefined,
      stop: () => {
        connections.open.splice(connections.open.indexOf(options), 1);
      },
    };
  },
}));
vi.mock("@/lib/api/upload", async (original) => ({
  ...(await original<typeof uploadApi>()),
  uploadCalls: () => ({ limits }),
}));
vi.mock("@/components/auth/session", () => {
  const session = { baseUrl: "" };
  return {
    useSession: () => session,
    useCurrentUser: () => user.query.data ?? null,
    useUserQuery: () => user.query,
    useSessionState: () => "logged-in",
    useLogOut: () => () => Promise.resolve(),
  };
});

const ANN = { userId: "ann", email: "ann@example.com", createdAt: null, tenant: "a", scopes: [] };

const stop = vi.fn();
const forget = vi.fn(() => Promise.resolve());

beforeEach(async () => {
  await prepareBrowser();
  listeners.clear();
  stop.mockClear();
  forget.mockClear();
  limits.mockReset().mockResolvedValue({
    maxPhotoBytes: 1000,
    maxJobPhotos: 20,
    contentTypes: ["image/png"],
    maxSinglePutBytes: 30,
    tusAboveBytes: null,
  });
  for (const { id } of toaster.store.getState().toasts) toaster.dismiss(id);
  user.query = { data: ANN, isError: false };
  created.engine = {
    ...createFakeUploads([]),
    onBatchEnd: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop,
    forget,
  };
  show();
  expect(screen.getByText("the pages")).toBeTruthy();
});

function show() {
  render(
    <QueryClientProvider client={new QueryClient()}>
      <Uploads>
        <p>the pages</p>
        <Account />
      </Uploads>
    </QueryClientProvider>,
  );
}

const end = (completed: number, failed: number, cancelled = 0) => {
  act(() => {
    for (const listener of listeners) listener({ batchId: "batch", completed, failed, cancelled });
  });
  return toaster.store.getState().toasts.map(({ tone, title }) => [tone, title]);
};

test("the end of a batch is a toast in words", () => {
  expect(end(3, 0)).toEqual([["success", "3 photos uploaded"]]);
  expect(end(98, 2).at(-1)).toEqual(["warning", "98 photos uploaded, 2 failed"]);
  expect(end(0, 1, 4).at(-1)).toEqual(["danger", "1 failed, 4 cancelled"]);
});

test("a batch that was cancelled as a whole needs no toast", () => {
  expect(end(0, 0, 5)).toEqual([]);
});

test("the toast of failures leads to them", () => {
  end(98, 2);
  uiStore.getState().showPanel(false);
  act(() => {
    toaster.store.getState().toasts[0]?.action?.onAction();
  });
  expect(uiStore.getState().tab).toBe("failed");
  expect(uiStore.getState().isCollapsed).toBe(false);
});

test("the engine follows jobs by one connection, which ends with the page", () => {
  expect(connections.open).toHaveLength(1);
  const { live } = created.deps.at(-1) as UploadEngineDeps;
  if (created.engine === null) throw new Error("There is no engine.");
  live?.(created.engine.listener).follow("job-1");
  expect(connections.follow).toHaveBeenCalledWith("job-1");
  cleanup();
  expect(connections.open).toHaveLength(0);
});

test("the engine learns the limits of the operator", async () => {
  await waitFor(() => {
    expect(created.engine?.store.getState().limits).toEqual({
      maxPhotoBytes: 1000,
      maxJobPhotos: 20,
      contentTypes: new Set(["image/png"]),
      maxSinglePutBytes: 30,
      tusAboveBytes: Infinity,
    });
  });
});

test("the engine stops with the page", () => {
  expect(stop).not.toHaveBeenCalled();
  cleanup();
  expect(stop).toHaveBeenCalledOnce();
  expect(listeners.size).toBe(0);
});

test("who logs out leaves nothing in the browser", async () => {
  await userEvent.click(screen.getByRole("button", { name: /ann@example\.com/ }));
  await userEvent.click(screen.getByRole("menuitem", { name: "Log out" }));
  cleanup();
  expect(forget).toHaveBeenCalledOnce();
});

test("a session that runs out keeps the uploads", () => {
  cleanup();
  expect(stop).toHaveBeenCalledOnce();
  expect(forget).not.toHaveBeenCalled();
});

test("a page that waits for who is logged in says so", () => {
  cleanup();
  user.query = { isError: false };
  show();
  expect(screen.getByRole("status").textContent).toBe("Loading …");
});

test("who is logged in is asked for again on request after a failure", async () => {
  cleanup();
  const refetch = vi.fn();
  user.query = { isError: true, refetch };
  show();
  expect(screen.getByRole("alert").textContent).toContain("Something went wrong");
  await userEvent.click(screen.getByRole("button", { name: "Retry" }));
  expect(refetch).toHaveBeenCalledOnce();
});
