import { act, fireEvent, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, test, vi } from "vitest";
import { createFakeUploads, sampleItems } from "../../../dev/fakeUploads";
import { AXE_MS, axeFindings } from "../../../tests/axe";
import { prepareBrowser, renderWith } from "../../../tests/uploads";
import { UploadPage } from "@/pages/UploadPage";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import { ChooseAgain } from "./ChooseAgain";
import { DropTarget } from "./DropTarget";
import { DropZone } from "./DropZone";

beforeEach(async () => {
  await prepareBrowser();
  toaster.store.setState({ toasts: [] });
});

const photo = new File(["x"], "a.jpg", { type: "image/jpeg" });

/** What a drag of files carries. */
function dragged(files: readonly File[]) {
  return {
    dataTransfer: {
      types: ["Files"],
      files,
      items: files.map((file) => ({
        kind: "file",
        getAsFile: () => file,
        webkitGetAsEntry: () => null,
      })),
    },
  };
}

test("the whole page takes drops, and shows that while a drag is over it", async () => {
  const uploads = createFakeUploads([]);
  renderWith(uploads, <DropTarget />);
  fireEvent.dragEnter(document.body, dragged([photo]));
  fireEvent.dragEnter(document.body, dragged([photo]));
  fireEvent.dragLeave(document.body, dragged([photo]));
  expect(screen.getByText("Let go to upload")).toBeTruthy();
  fireEvent.drop(document.body, dragged([photo]));
  expect(screen.queryByText("Let go to upload")).toBeNull();
  await waitFor(() => {
    expect(uploads.calls).toEqual([["add", [{ file: photo }]]]);
  });
});

test("text that is dragged over the page is left alone", () => {
  renderWith(createFakeUploads([]), <DropTarget />);
  const isUntouched = fireEvent.dragOver(document.body, {
    dataTransfer: { types: ["text/plain"] },
  });
  expect(isUntouched).toBe(true);
});

test("pasted photos are uploaded", async () => {
  const uploads = createFakeUploads([]);
  renderWith(uploads, <DropTarget />);
  fireEvent.paste(document.body, { clipboardData: { files: [photo] } });
  await waitFor(() => {
    expect(uploads.calls).toEqual([["add", [{ file: photo }]]]);
  });
});

test("the picker hands over what was chosen, the same file a second time too", async () => {
  const uploads = createFakeUploads([]);
  renderWith(uploads, <DropZone isCompact={false} />);
  const input = screen.getByTestId<HTMLInputElement>("file-input");
  await userEvent.upload(input, photo);
  await userEvent.upload(input, photo);
  await waitFor(() => {
    expect(uploads.calls.map(([name]) => name)).toEqual(["add", "add"]);
  });
});

test("files of a folder are told apart by it, and others than photos are left out", async () => {
  const uploads = createFakeUploads([]);
  renderWith(uploads, <DropZone isCompact={false} />);
  const inFolder = (name: string) => {
    const file = new File(["x"], name);
    Object.defineProperty(file, "webkitRelativePath", { value: `trip/day 1/${name}` });
    return file;
  };
  const [kept, left] = [inFolder("a.jpg"), inFolder("notes.txt")];
  fireEvent.change(screen.getByTestId("folder-input"), { target: { files: [kept, left] } });
  await waitFor(() => {
    expect(uploads.calls).toEqual([["add", [{ file: kept, folder: "trip/day 1" }]]]);
  });
});

test("interrupted uploads ask for their files, and say when none has matched", async () => {
  const uploads = createFakeUploads(sampleItems(2, "needs-file"));
  const provide = vi.spyOn(uploads, "provide").mockResolvedValueOnce(["item-0"]);
  renderWith(uploads, <ChooseAgain />);
  expect(screen.getByRole("heading").textContent).toBe("1 upload was interrupted");
  const input = screen.getByTestId<HTMLInputElement>("file-input");
  await userEvent.upload(input, photo);
  await userEvent.upload(input, photo);
  expect(provide).toHaveBeenCalledWith([{ file: photo }]);
  await waitFor(() => {
    expect(toaster.store.getState().toasts.map(({ title }) => title)).toEqual([
      "1 upload goes on",
      "None of these files is missing",
    ]);
  });
});

test(
  "the queue shows positions, and handles for what has not begun",
  { timeout: AXE_MS },
  async () => {
    const uploads = createFakeUploads(sampleItems(6, "mixed"));
    const { container } = renderWith(uploads, <UploadPage />);
    const rows = screen.getAllByRole("listitem");
    expect(rows).toHaveLength(6);
    expect(rows[0]?.textContent).toMatch(/^1/);
    const handles = screen.getAllByRole("button", { name: /^Move / });
    expect(handles.map((handle) => handle.getAttribute("aria-label"))).toEqual([
      "Move photo_without_extension",
    ]);
    expect(await axeFindings(container)).toEqual([]);
  },
);

test.each([
  [
    "mixed",
    12,
    "1 waiting · 3 uploading · 1 paused · 1 to choose again · 1 processing · 1 completed · " +
      "2 failed · 1 cancelled",
  ],
  ["completed", 2, "2 completed"],
] as const)(
  "the queue tells how many of its uploads are in each state: %s",
  (scene, count, stats) => {
    renderWith(createFakeUploads(sampleItems(count, scene)), <UploadPage />);
    expect(screen.getByText(stats)).toBeTruthy();
  },
);

test("a row is lifted and left by keyboard, in words", async () => {
  renderWith(createFakeUploads(sampleItems(3, "sending")), <UploadPage />);
  const handle = screen.getByRole("button", { name: /^Move / });
  act(() => {
    handle.focus();
  });
  await userEvent.keyboard(" ");
  await waitFor(() => {
    expect(document.body.textContent).toMatch(/is (?:lifted from|at) position \d of 3/);
  });
  await userEvent.keyboard("{Escape}");
  await waitFor(() => {
    expect(document.body.textContent).toMatch(/stays where it was/);
  });
});

test("the number of uploads at once is set by a slider", async () => {
  renderWith(createFakeUploads([]), <UploadPage />);
  await userEvent.click(screen.getByRole("button", { name: "Upload settings" }));
  fireEvent.change(screen.getByRole("slider", { name: "Uploads at once" }), {
    target: { value: "7" },
  });
  expect(uiStore.getState().concurrency).toBe(7);
});
