import { act, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createFakeUploads, sampleItem } from "../../../dev/fakeUploads";
import { prepareBrowser, renderWith } from "../../../tests/uploads";
import { ANNOUNCE_MS, LiveSummary } from "./LiveSummary";

beforeEach(() => prepareBrowser());
afterEach(() => {
  vi.useRealTimers();
});

const pass = (milliseconds: number) => {
  act(() => {
    vi.advanceTimersByTime(milliseconds);
  });
};

test("readers of screens hear one message in five seconds at most, and the end at once", () => {
  vi.useFakeTimers();
  const item = { ...sampleItem(0, "sending"), size: 1000, bytesSent: 0 };
  const uploads = createFakeUploads([item]);
  renderWith(uploads, <LiveSummary />);
  const region = screen.getByRole("status");
  pass(0);
  expect(region.textContent).toBe("0% uploaded, 0 of 1 completed");
  const messages = new Set<string>();
  for (let time = 0; time < ANNOUNCE_MS - 100; time += 100) {
    act(() => {
      uploads.change("item-0", { bytesSent: time / 10 });
    });
    pass(100);
    messages.add(region.textContent);
  }
  expect(messages.size).toBe(1);
  pass(ANNOUNCE_MS);
  expect(region.textContent).toBe("48% uploaded, 0 of 1 completed");
  act(() => {
    uploads.change("item-0", { phase: "completed" });
  });
  pass(0);
  expect(region.textContent).toBe("Uploads have ended: 1 photo uploaded");
});

test("a list that had ended before is not announced", () => {
  vi.useFakeTimers();
  renderWith(createFakeUploads([sampleItem(0, "completed")]), <LiveSummary />);
  pass(2 * ANNOUNCE_MS);
  expect(screen.getByRole("status").textContent).toBe("");
});
