import { useState } from "react";
import { act, fireEvent, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AXE_MS, axeFindings } from "../../../tests/axe";
import { prepareBrowser } from "../../../tests/uploads";
import { Images } from "@/design/icons";
import { createToaster } from "@/stores/toastStore";
import { Button } from "./Button";
import { Dialog } from "./Dialog";
import { EmptyState } from "./EmptyState";
import { Menu } from "./Menu";
import { Tabs } from "./Tabs";
import { TextField } from "./TextField";
import { Toasts } from "./Toasts";

beforeEach(() => prepareBrowser());
afterEach(() => {
  vi.useRealTimers();
});

test("a loading button takes no clicks and keeps its focus", async () => {
  const onClick = vi.fn();
  render(
    <Button isLoading onClick={onClick}>
      Save
    </Button>,
  );
  const button = screen.getByRole("button", { name: "Save" });
  await userEvent.click(button);
  expect(onClick).not.toHaveBeenCalled();
  expect(document.activeElement).toBe(button);
});

test("a menu is operated by keyboard and gives the focus back", async () => {
  const onSelect = vi.fn();
  render(
    <Menu
      items={[
        { id: "one", label: "One", onSelect: vi.fn() },
        { id: "two", label: "Two", onSelect, isChecked: true },
        { id: "none", label: "None", onSelect: vi.fn(), isDisabled: true },
      ]}
      trigger={(props) => (
        <button type="button" {...props}>
          Open
        </button>
      )}
    />,
  );
  const trigger = screen.getByRole("button", { name: "Open" });
  trigger.focus();
  await userEvent.keyboard("{ArrowDown}");
  expect(document.activeElement?.textContent).toBe("One");
  await userEvent.keyboard("{ArrowUp}");
  expect(document.activeElement?.textContent).toBe("Two");
  await userEvent.keyboard("{Enter}");
  expect(onSelect).toHaveBeenCalledOnce();
  expect(screen.queryByRole("menu")).toBeNull();
  expect(document.activeElement).toBe(trigger);
  await userEvent.keyboard("{ArrowDown}t");
  expect(document.activeElement?.textContent).toBe("Two");
  await userEvent.keyboard("{Escape}");
  expect(document.activeElement).toBe(trigger);
});

function TwoTabs() {
  const [selected, setSelected] = useState<"a" | "b">("a");
  return (
    <Tabs
      label="Letters"
      tabs={[
        { id: "a", label: "A" },
        { id: "b", label: "B" },
      ]}
      selected={selected}
      onSelect={setSelected}
    >
      {selected}
    </Tabs>
  );
}

test("tabs select with the focus, in a circle", async () => {
  render(<TwoTabs />);
  await userEvent.tab();
  await userEvent.keyboard("{ArrowRight}");
  expect(screen.getByRole("tabpanel").textContent).toBe("b");
  expect(document.activeElement?.textContent).toBe("B");
  await userEvent.keyboard("{ArrowRight}");
  expect(screen.getByRole("tabpanel").textContent).toBe("a");
});

test("a dialog closes by Escape and by a click beside it, not by one on it", async () => {
  const onClose = vi.fn();
  render(<Dialog isOpen title="Sure?" description="It is final." onClose={onClose} />);
  const dialog = screen.getByRole("dialog", { name: "Sure?" });
  await userEvent.click(screen.getByText("It is final."));
  expect(onClose).not.toHaveBeenCalled();
  fireEvent(dialog, new Event("cancel", { cancelable: true }));
  fireEvent.click(dialog);
  expect(onClose).toHaveBeenCalledTimes(2);
});

test("a toast goes by itself, but not under the pointer", () => {
  vi.useFakeTimers();
  const toaster = createToaster();
  render(<Toasts toaster={toaster} />);
  const onExpire = vi.fn();
  act(() => {
    toaster.show({ tone: "success", title: "98 photos uploaded", duration: 1000, onExpire });
  });
  const status = screen.getByRole("status");
  expect(status.textContent).toContain("98 photos uploaded");
  fireEvent.pointerEnter(screen.getByRole("region"));
  act(() => {
    vi.advanceTimersByTime(5000);
  });
  expect(status.textContent).toContain("98 photos uploaded");
  fireEvent.pointerLeave(screen.getByRole("region"));
  act(() => {
    vi.advanceTimersByTime(1000);
  });
  expect(status.textContent).toBe("");
  expect(onExpire).toHaveBeenCalledOnce();
});

test("the action of a toast runs once, and it does not expire then", () => {
  const toaster = createToaster();
  render(<Toasts toaster={toaster} />);
  const [onAction, onExpire] = [vi.fn(), vi.fn()];
  act(() => {
    toaster.show({ tone: "info", title: "Gone", action: { label: "Undo", onAction }, onExpire });
  });
  fireEvent.click(screen.getByRole("button", { name: "Undo" }));
  expect(onAction).toHaveBeenCalledOnce();
  expect(onExpire).not.toHaveBeenCalled();
  expect(screen.getByRole("status").textContent).toBe("");
});

test("five toasts are too many: the oldest one goes", () => {
  const toaster = createToaster();
  for (const title of ["1", "2", "3", "4", "5"]) toaster.show({ tone: "info", title });
  expect(toaster.store.getState().toasts.map(({ title }) => title)).toEqual(["2", "3", "4", "5"]);
});

test("axe finds nothing in the common components", { timeout: AXE_MS }, async () => {
  const toaster = createToaster();
  toaster.show({ tone: "danger", title: "Failed", text: "Try again.", duration: null });
  const { container } = render(
    <>
      <TwoTabs />
      <TextField label="Name" hint="Yours" error="It is empty; fill it in." />
      <EmptyState icon={Images} title="Nothing" text="There is nothing." />
      <Dialog isOpen title="Sure?" description="It is final." onClose={vi.fn()} />
      <Toasts toaster={toaster} />
    </>,
  );
  expect(await axeFindings(container)).toEqual([]);
});
