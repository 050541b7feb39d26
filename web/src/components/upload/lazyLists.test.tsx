import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import { UploadProvider } from "@/hooks/useUpload";
import { UploadPage } from "@/pages/UploadPage";
import { createFakeUploads, sampleItems } from "../../../dev/fakeUploads";
import { prepareBrowser } from "../../../tests/uploads";
import { preloadLists } from "./lazyLists";
import type * as lists from "./lists";

const chunk = vi.hoisted(() => ({ requests: 0, isThere: false }));

vi.mock("./lists", async (original) => {
  chunk.requests += 1;
  if (chunk.isThere) return original<typeof lists>();
  throw new TypeError("Failed to fetch dynamically imported module");
});

beforeEach(async () => {
  await prepareBrowser();
  vi.spyOn(console, "error").mockImplementation(() => undefined); // React writes the failure
});

async function show() {
  const uploads = createFakeUploads(sampleItems(3, "mixed"));
  await act(async () => {
    render(
      <UploadProvider engine={uploads}>
        <UploadPage />
      </UploadProvider>,
    );
    await Promise.resolve();
  });
  return uploads;
}

test("a list that cannot be loaded leaves the drop zone, which takes files", async () => {
  const uploads = await show();
  expect((await screen.findByRole("alert")).textContent).toContain("Your uploads go on");
  const photo = new File(["x"], "a.jpg", { type: "image/jpeg" });
  fireEvent.change(screen.getByTestId("file-input"), { target: { files: [photo] } });
  await waitFor(() => {
    expect(uploads.calls).toEqual([["add", [{ file: photo }]]]);
  });
});

test("what could not be loaded beforehand is asked for again", async () => {
  chunk.requests = 0;
  await preloadLists();
  await preloadLists();
  expect(chunk.requests).toBe(2);
});

test("a list that could not be loaded is loaded on request, and the page stays", async () => {
  const busy = { timeout: 20_000 }; // vitest makes a module of a mock in its own time
  await show();
  const retry = await screen.findByRole("button", { name: "Retry" }, busy);
  chunk.isThere = true;
  await act(async () => {
    fireEvent.click(retry);
    await preloadLists(); // the same promise
  });
  expect(await screen.findByRole("list", {}, busy)).toBeTruthy();
  expect(screen.queryByRole("alert")).toBeNull();
});
