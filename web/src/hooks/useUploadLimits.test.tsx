import { act, renderHook } from "@testing-library/react";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { afterEach, expect, test, vi } from "vitest";
import { limitsOf } from "@/lib/engine/limits";
import { LIMITS } from "../../tests/items";
import { useUploadLimits } from "./useUploadLimits";

afterEach(() => {
  vi.useRealTimers();
});

test("a page that stays open learns the limits of a gateway that was started again", async () => {
  vi.useFakeTimers();
  const setLimits = vi.fn();
  const limits = vi.fn(() => Promise.resolve(LIMITS));
  const client = new QueryClient();
  renderHook(
    () => {
      useUploadLimits({ setLimits }, { limits });
    },
    {
      wrapper: ({ children }) => (
        <QueryClientProvider client={client}>{children}</QueryClientProvider>
      ),
    },
  );
  await act(() => vi.advanceTimersByTimeAsync(1_000));
  expect(setLimits).toHaveBeenLastCalledWith(limitsOf(LIMITS));
  const changed = { ...LIMITS, maxPhotoBytes: 5 };
  limits.mockResolvedValue(changed);
  await act(() => vi.advanceTimersByTimeAsync(10 * 60_000));
  expect(setLimits).toHaveBeenLastCalledWith(limitsOf(changed));
  client.clear();
});
