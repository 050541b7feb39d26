import { render, screen } from "@testing-library/react";
import { beforeEach, expect, test } from "vitest";
import type { UploadPhase } from "@/stores/uploadTypes";
import { prepareBrowser } from "../../../tests/uploads";
import { JobStatusBadge } from "./JobStatusBadge";
import { PHASE_LOOK } from "./phases";
import { ProgressBar } from "./ProgressBar";

const WORDS: Readonly<Record<UploadPhase, string>> = {
  waiting: "Waiting",
  sending: "Uploading",
  paused: "Paused",
  "needs-file": "Needs its file",
  processing: "Processing",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
  rejected: "Refused",
  duplicate: "Duplicate",
};
const PHASES: readonly UploadPhase[] = [
  "waiting",
  "sending",
  "paused",
  "needs-file",
  "processing",
  "completed",
  "failed",
  "cancelled",
  "rejected",
  "duplicate",
];

beforeEach(() => prepareBrowser());

test("each phase has a word of its own", () => {
  for (const phase of PHASES) {
    const { container, unmount } = render(<JobStatusBadge phase={phase} />);
    expect(container.textContent).toBe(WORDS[phase]);
    unmount();
  }
  expect(Object.keys(PHASE_LOOK).sort()).toEqual([...PHASES].sort());
});

test("completed is green, failed is red, nothing else is either", () => {
  const having = (tone: string) => PHASES.filter((phase) => PHASE_LOOK[phase].tone === tone);
  expect(having("success")).toEqual(["completed"]);
  expect(having("danger")).toEqual(["failed", "rejected"]);
  expect(having("accent")).toEqual(["sending"]);
});

test.each([
  [-0.5, "0", "scaleX(0.0000)"],
  [0.426, "42", "scaleX(0.4260)"],
  [0.999, "99", "scaleX(0.9990)"],
  [1.5, "100", "scaleX(1.0000)"],
])("a bar keeps within its track, and says how far it is", (share, percent, transform) => {
  render(<ProgressBar share={share} tone="accent" label="a.jpg" valueText="uploading" />);
  const bar = screen.getByRole("progressbar", { name: "a.jpg" });
  expect(bar.getAttribute("aria-valuenow")).toBe(percent);
  expect(bar.getAttribute("aria-valuetext")).toBe("uploading");
  expect(bar.firstElementChild?.getAttribute("style")).toContain(transform);
});
