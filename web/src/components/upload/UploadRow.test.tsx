import { Profiler } from "react";
import { act, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { createFakeUploads, sampleItem, sampleItems } from "../../../dev/fakeUploads";
import { AXE_MS, axeFindings } from "../../../tests/axe";
import { prepareBrowser, renderWith } from "../../../tests/uploads";
import type { UploadPhase } from "@/stores/uploadTypes";
import { UploadRow } from "./UploadRow";

beforeEach(() => prepareBrowser());

/** More than any window shows; of the others there are no rows. */
const ROWS = 60;

test("one change of a thousand items draws one row again", () => {
  const uploads = createFakeUploads(sampleItems(1000, "mixed"));
  const drawn = vi.fn();
  renderWith(
    uploads,
    <>
      {uploads.store
        .getState()
        .order.slice(0, ROWS)
        .map((id) => (
          <Profiler key={id} id={id} onRender={drawn}>
            <UploadRow id={id} />
          </Profiler>
        ))}
    </>,
  );
  expect(drawn).toHaveBeenCalledTimes(ROWS);
  drawn.mockClear();
  act(() => {
    uploads.change("item-12", { bytesSent: 4711 });
  });
  expect(drawn.mock.calls.map(([id]: unknown[]) => id)).toEqual(["item-12"]);
  drawn.mockClear();
  act(() => {
    uploads.change("item-999", { bytesSent: 4711 });
  });
  expect(drawn).not.toHaveBeenCalled();
});

const ACTIONS: Readonly<Record<UploadPhase, readonly string[]>> = {
  waiting: ["pause", "cancel"],
  sending: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  "needs-file": ["cancel"],
  processing: [],
  completed: ["clear"],
  failed: ["retry", "clear"],
  cancelled: ["clear"],
  rejected: ["clear"],
  duplicate: ["clear"],
};

test.each(Object.entries(ACTIONS))(
  "an upload in the phase %s has the actions %j, which name the file",
  { timeout: AXE_MS },
  async (phase, actions) => {
    const [known] = Object.keys(ACTIONS).filter((one): one is UploadPhase => one === phase);
    if (known === undefined) throw new Error("no phase");
    for (const [index, action] of actions.entries()) {
      const item = { ...sampleItem(0, known), name: "Löwe.jpg" };
      const failure = item.failure && { ...item.failure, canRetry: true };
      const uploads = createFakeUploads([{ ...item, failure }]);
      const { unmount, container } = renderWith(uploads, <UploadRow id="item-0" />);
      const buttons = screen.getAllByRole("button");
      expect(buttons).toHaveLength(actions.length);
      expect(buttons[index]?.getAttribute("aria-label")).toContain("Löwe.jpg");
      if (index === 0) expect(await axeFindings(container)).toEqual([]);
      if (buttons[index]) await userEvent.click(buttons[index]);
      expect(uploads.calls).toEqual([[action, "item-0"]]);
      unmount();
    }
  },
);

test("a failure that repeats with the same bytes cannot be retried", () => {
  const item = sampleItem(0, "failed");
  const failure = { reason: "TRUNCATED", detail: null, canRetry: false };
  renderWith(createFakeUploads([{ ...item, failure }]), <UploadRow id="item-0" />);
  expect(screen.queryByRole("button", { name: /retry/i })).toBeNull();
  expect(screen.getByText(/a part of the picture is missing/)).toBeTruthy();
});

test("an unknown reason shows what the server says", () => {
  const failure = { reason: "NEW_REASON", detail: "The moon is full.", canRetry: true };
  const uploads = createFakeUploads([{ ...sampleItem(0, "failed"), failure }]);
  renderWith(uploads, <UploadRow id="item-0" />);
  expect(screen.getByText("The moon is full.")).toBeTruthy();
});

test("the bar says how far the file is, and 100 % only when it has arrived", () => {
  const uploads = createFakeUploads([{ ...sampleItem(0, "sending"), size: 1000, bytesSent: 1000 }]);
  renderWith(uploads, <UploadRow id="item-0" />);
  const bar = screen.getByRole("progressbar");
  expect(bar.getAttribute("aria-valuenow")).toBe("99");
  expect(bar.getAttribute("aria-valuetext")).toBe("99%, Uploading");
  act(() => {
    uploads.change("item-0", { phase: "processing" });
  });
  expect(bar.getAttribute("aria-valuenow")).toBe("100");
});

test("a name is shown whole to readers of screens, in its own direction", () => {
  const name = "صورة العائلة.jpg";
  renderWith(createFakeUploads([{ ...sampleItem(0, "sending"), name }]), <UploadRow id="item-0" />);
  const shown = screen.getByTitle(name);
  expect(shown.textContent).toBe(name);
  expect(shown.querySelector("[dir=auto]")).toBeTruthy();
});
