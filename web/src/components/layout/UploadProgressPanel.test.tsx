import { act, fireEvent, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { createFakeUploads, sampleItems, SCENES, summaryOf } from "../../../dev/fakeUploads";
import { AXE_MS, axeFindings } from "../../../tests/axe";
import { prepareBrowser, renderWith } from "../../../tests/uploads";
import { uiStore } from "@/stores/uiStore";
import { UploadProgressPanel } from "./UploadProgressPanel";

beforeEach(() => prepareBrowser());

const panel = () => screen.getByRole("region", { name: "Upload progress" });
const offsets = () => [panel().style.insetInlineEnd, panel().style.insetBlockEnd];

test("without uploads there is no panel", () => {
  const { container } = renderWith(createFakeUploads([]), <UploadProgressPanel />);
  expect(container.textContent).toBe("");
});

test("the header sums up: number, percent, speed, time left", () => {
  renderWith(createFakeUploads(sampleItems(90, "sending")), <UploadProgressPanel />);
  expect(within(panel()).getByRole("heading").textContent).toMatch(/^60 uploading \(\d+%\)$/);
  expect(panel().textContent.replaceAll("\u00a0", " ")).toContain(
    "0 of 90 completed · 11.8 MiB/s · 2 min left",
  );
});

test("while no byte moves there is no speed", () => {
  const items = sampleItems(1, "sending").map((item) => ({ ...item, bytesPerSecond: 0 }));
  const summary = { ...summaryOf(items), bytesPerSecond: 0, secondsLeft: null };
  renderWith(createFakeUploads(items, { summary }), <UploadProgressPanel />);
  expect(panel().textContent).toContain("0 of 1 completed");
  expect(panel().textContent).not.toContain("B/s");
});

test("tabs show counts, filter the list, and are kept", async () => {
  renderWith(createFakeUploads(sampleItems(24, "mixed")), <UploadProgressPanel />);
  const tabs = screen.getAllByRole("tab");
  expect(tabs.map((tab) => tab.textContent)).toEqual([
    "All24",
    "Active14",
    "Completed2",
    "Failed4",
  ]);
  await userEvent.click(screen.getByRole("tab", { name: /Failed/ }));
  const rows = [...panel().querySelectorAll("[data-phase]")];
  expect(rows.map((row) => row.getAttribute("data-phase")).sort()).toEqual([
    "failed",
    "failed",
    "rejected",
    "rejected",
  ]);
  expect(uiStore.getState().tab).toBe("failed");
  await userEvent.keyboard("{Home}");
  expect(screen.getByRole("tab", { name: /All/ }).getAttribute("aria-selected")).toBe("true");
});

test("counts of four digits leave room for every tab", () => {
  renderWith(createFakeUploads(sampleItems(1000, "mixed")), <UploadProgressPanel />);
  expect(screen.getByRole("tab", { name: "All 1,000" }).textContent).toBe("All999+");
});

test("of a thousand uploads only the visible rows are in the page", () => {
  renderWith(createFakeUploads(sampleItems(1000, "mixed")), <UploadProgressPanel />);
  const rows = panel().querySelectorAll("li");
  expect(rows.length).toBeGreaterThan(5);
  expect(rows.length).toBeLessThan(30);
  expect(rows[0]?.getAttribute("aria-setsize")).toBe("1000");
});

test("it moves by keyboard, stays in the window, and Home puts it back", () => {
  renderWith(createFakeUploads(sampleItems(3, "mixed")), <UploadProgressPanel />);
  const grip = screen.getByRole("button", { name: /Move the panel/ });
  expect(offsets()).toEqual(["24px", "24px"]);
  fireEvent.keyDown(grip, { key: "ArrowLeft" });
  fireEvent.keyDown(grip, { key: "ArrowUp", shiftKey: true });
  expect(offsets()).toEqual(["40px", "88px"]);
  expect(uiStore.getState().position).toEqual({ end: 40, bottom: 88 });
  for (let step = 0; step < 100; step += 1) fireEvent.keyDown(grip, { key: "ArrowLeft" });
  expect(offsets()).toEqual([`${1280 - 400 - 8}px`, "88px"]);
  fireEvent.keyDown(grip, { key: "Home" });
  expect(offsets()).toEqual(["24px", "24px"]);
});

test("it moves with the pointer, and its place is kept", () => {
  renderWith(createFakeUploads(sampleItems(3, "mixed")), <UploadProgressPanel />);
  const header = screen.getByRole("heading").closest("header");
  if (!header) throw new Error("no header");
  header.setPointerCapture = vi.fn();
  const at = (clientX: number, clientY: number) => ({ clientX, clientY, pointerId: 1, button: 0 });
  fireEvent.pointerDown(header, at(1000, 300));
  fireEvent.pointerMove(header, at(900, 250));
  expect(offsets()).toEqual(["124px", "74px"]);
  expect(uiStore.getState().position).toBeNull();
  fireEvent.pointerUp(header, at(900, 250));
  expect(uiStore.getState().position).toEqual({ end: 124, bottom: 74 });
});

test("a smaller window pushes it inside, a larger one lets it go back", () => {
  uiStore.getState().set({ position: { end: 700, bottom: 24 } });
  renderWith(createFakeUploads(sampleItems(3, "mixed")), <UploadProgressPanel />);
  const resize = (width: number) => {
    vi.stubGlobal("innerWidth", width);
    act(() => {
      fireEvent(window, new Event("resize"));
    });
  };
  resize(900);
  expect(offsets()[0]).toBe(`${900 - 400 - 8}px`);
  resize(1280);
  expect(offsets()[0]).toBe("700px");
});

test("it collapses to a button that says what goes on; the focus follows", async () => {
  renderWith(createFakeUploads(sampleItems(9, "sending")), <UploadProgressPanel />);
  await userEvent.click(screen.getByRole("button", { name: "Collapse the upload progress" }));
  const icon = screen.getByRole("button", { name: /Show the upload progress: 6 uploading/ });
  expect(document.activeElement).toBe(icon);
  expect(uiStore.getState().isCollapsed).toBe(true);
  await userEvent.click(icon);
  expect(document.activeElement?.getAttribute("aria-label")).toBe("Collapse the upload progress");
});

test("in a narrow window it begins collapsed", async () => {
  await prepareBrowser(820);
  renderWith(createFakeUploads(sampleItems(9, "sending")), <UploadProgressPanel />);
  expect(screen.queryByRole("region")).toBeNull();
  expect(screen.getByRole("button", { name: /Show the upload progress/ })).toBeTruthy();
});

test("on phones it is a sheet, which Escape closes", async () => {
  await prepareBrowser(390);
  renderWith(createFakeUploads(sampleItems(9, "sending")), <UploadProgressPanel />);
  await userEvent.click(screen.getByRole("button", { name: /Show the upload progress/ }));
  const sheet = screen.getByRole("dialog", { name: "Upload progress" });
  fireEvent(sheet, new Event("cancel", { cancelable: true }));
  expect(screen.queryByRole("dialog")).toBeNull();
});

test("all are paused, resumed, retried, cleared; cancelling asks first", async () => {
  const uploads = createFakeUploads(sampleItems(24, "mixed"));
  renderWith(uploads, <UploadProgressPanel />);
  const press = (name: string) => userEvent.click(screen.getByRole("button", { name }));
  await press("Pause all");
  await press("Resume all");
  await press("Retry failed");
  await press("Clear finished");
  await press("Cancel all");
  expect(uploads.calls.map(([name]) => name)).not.toContain("cancelAll");
  await press("Cancel uploads");
  expect(uploads.calls.map(([name]) => name)).toEqual([
    "pauseAll",
    "resumeAll",
    "retryAll",
    "clearEnded",
    "cancelAll",
  ]);
});

test.each([
  [{ live: "polling" } as const, "No live updates: states may be a moment late"],
  [{ live: "offline" } as const, "No connection to the server. Uploads go on by themselves."],
  [{ isOnline: false }, "You are offline. Uploads go on by themselves."],
])("a connection like %j is said in words", (state, text) => {
  renderWith(createFakeUploads(sampleItems(3, "sending"), state), <UploadProgressPanel />);
  expect(screen.getByText(text)).toBeTruthy();
});

test.each(SCENES)("axe finds nothing in the scene %s", { timeout: AXE_MS }, async (scene) => {
  const { container } = renderWith(
    createFakeUploads(sampleItems(scene === "mixed" ? 12 : 3, scene)),
    <UploadProgressPanel />,
  );
  expect(await axeFindings(container)).toEqual([]);
});
