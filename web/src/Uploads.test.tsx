import { act, cleanup, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { beforeEach, expect, test, vi } from "vitest";
import type { UploadEngine } from "@/lib/engine/engine";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import type { BatchEnd } from "@/stores/uploadTypes";
import { createFakeUploads } from "../dev/fakeUploads";
import { prepareBrowser } from "../tests/uploads";
import { Account, Uploads } from "./Uploads";

const created = vi.hoisted(() => ({ engine: null as UploadEngine | null }));
const listeners = new Set<(end: BatchEnd) => void>();

vi.mock("@/lib/engine/engine", () => ({ createUploadEngine: () => created.engine }));
vi.mock("@/components/auth/session", () => {
  const session = { baseUrl: "" };
  const user = { userId: "ann", email: "ann@example.com" };
  return {
    useSession: () => session,
    useCurrentUser: () => user,
    useSessionState: () => "logged-in",
    useLogOut: () => () => Promise.resolve(),
  };
});

const stop = vi.fn();
const forget = vi.fn(() => Promise.resolve());

beforeEach(async () => {
  await prepareBrowser();
  listeners.clear();
  stop.mockClear();
  forget.mockClear();
  for (const { id } of toaster.store.getState().toasts) toaster.dismiss(id);
  created.engine = {
    ...createFakeUploads([]),
    onBatchEnd: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop,
    forget,
  };
  render(
    <QueryClientProvider client={new QueryClient()}>
      <Uploads>
        <p>the pages</p>
        <Account />
      </Uploads>
    </QueryClientProvider>,
  );
  expect(screen.getByText("the pages")).toBeTruthy();
});

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
