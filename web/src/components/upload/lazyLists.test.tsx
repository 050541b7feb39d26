import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import { UploadProvider } from "@/hooks/useUpload";
import { UploadPage } from "@/pages/UploadPage";
import { createFakeUploads, sampleItems } from "../../../dev/fakeUploads";
import { prepareBrowser } from "../../../tests/uploads";
import { preloadLists } from "./lazyLists";

const chunk = vi.hoisted(() => ({ requests: 0 }));

vi.mock("./lists", () => {
  chunk.requests += 1;
  throw new TypeError("Failed to fetch dynamically imported module");
});

beforeEach(async () => {
  await prepareBrowser();
  vi.spyOn(console, "error").mockImplementation(() => undefined); // React writes the failure
});

test("a list that cannot be loaded leaves the drop zone, which takes files", async () => {
  const uploads = createFakeUploads(sampleItems(3, "mixed"));
  await act(async () => {
    render(
      <UploadProvider engine={uploads}>
        <UploadPage />
      </UploadProvider>,
    );
    await Promise.resolve();
  });
  expect(await screen.findByRole("button", { name: "Reload the page" })).toBeTruthy();
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
