import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it } from "vitest";
import { ApiError, NetworkError } from "@/lib/api/errors";
import { toaster } from "@/stores/toastStore";
import { axeFindings } from "../../tests/axe";
import { fakeServices, photo, prepareGallery, renderGallery } from "../../tests/gallery";
import { GalleryPage } from "./GalleryPage";

const PHOTOS = ["a", "b", "c", "d", "e", "f"].map((id) => photo(id));
const link = (name: string) =>
  screen.findByRole("link", { name: new RegExp(`^${name}\\.jpg`, "u") });

beforeEach(async () => {
  await prepareGallery();
  for (const toast of toaster.store.getState().toasts) toaster.dismiss(toast.id);
});

describe("GalleryPage", () => {
  it("shows photos with their sizes, their names and both thumbnails, without findings", async () => {
    const { services } = fakeServices(PHOTOS, ["Berge"]);
    const { container } = renderGallery(services, <GalleryPage />);
    const image = within(await link("a")).getByRole("img", { name: "a.jpg" });
    expect(image.getAttribute("loading")).toBe("lazy");
    expect(Number(image.getAttribute("width"))).toBeGreaterThan(0);
    expect(Number(image.getAttribute("height"))).toBeGreaterThan(0);
    expect(image.getAttribute("srcset")).toMatch(/256w, .* 1024w/u);
    expect(screen.getByRole("heading", { name: "Today" })).toBeTruthy();
    await screen.findByRole("button", { name: /Berge/u });
    expect(await axeFindings(container)).toEqual([]);
  });

  it("shows the state of a photo under way and the reason of a failed one", async () => {
    const waiting = photo("w", { status: "PROCESSING", thumbnails: [], width: null, height: null });
    const failed = photo("x", { status: "FAILED", reason: "TRUNCATED", thumbnails: [] });
    const { services } = fakeServices([waiting, failed]);
    const { container } = renderGallery(services, <GalleryPage />);
    expect(await screen.findByText("Processing")).toBeTruthy();
    expect(screen.getByText(/file is incomplete/u)).toBeTruthy();
    expect(await axeFindings(container)).toEqual([]);
  });

  it("leads to the upload if there are no photos yet", async () => {
    const { services } = fakeServices([]);
    renderGallery(services, <GalleryPage />);
    await userEvent.click(await screen.findByRole("button", { name: "Upload photos" }));
    expect(location.pathname).toBe("/");
  });

  it("offers to clear filters that no photo matches", async () => {
    history.replaceState(null, "", "/photos?q=zzz&sort=filename%2Casc");
    const { services, calls } = fakeServices([]);
    renderGallery(services, <GalleryPage />);
    await screen.findByRole("heading", { name: "No photo matches" });
    expect(calls.list.mock.calls[0]?.[0]).toMatchObject({ q: "zzz", sort: "filename,asc" });
    await userEvent.click(
      screen.getAllByRole("button", { name: "Clear filters" })[0] ?? document.body,
    );
    expect(location.search).toBe("?sort=filename%2Casc");
  });

  it("says what failed, and loads again on request", async () => {
    const { services, calls } = fakeServices(PHOTOS);
    calls.list.mockRejectedValueOnce(new NetworkError());
    const { container } = renderGallery(services, <GalleryPage />);
    await screen.findByText(/cannot be reached/u);
    expect(await axeFindings(container)).toEqual([]);
    await userEvent.click(screen.getByRole("button", { name: "Retry" }));
    expect(await link("a")).toBeTruthy();
  });

  it("searches once the person pauses, and keeps the words in the address", async () => {
    const { services, calls } = fakeServices(PHOTOS);
    renderGallery(services, <GalleryPage />);
    await link("a");
    await userEvent.type(screen.getByRole("searchbox"), "sea");
    await waitFor(() => {
      expect(location.search).toBe("?q=sea");
    });
    const words = calls.list.mock.calls.map(([filter]) => filter?.q);
    expect(words).toEqual([undefined, "sea"]);
  });

  it("follows the cursor to the next page", async () => {
    const { services, calls } = fakeServices(PHOTOS);
    calls.list.mockImplementation((filter) => {
      const isFirst = filter?.cursor === undefined;
      const items = isFirst ? PHOTOS.slice(0, 3) : PHOTOS.slice(2);
      return Promise.resolve({
        items,
        page: 0,
        size: 100,
        hasMore: isFirst,
        next: isFirst ? "c1" : null,
      });
    });
    renderGallery(services, <GalleryPage />);
    expect(await link("f")).toBeTruthy();
    // One photo came on both pages.
    expect(screen.getAllByRole("gridcell")).toHaveLength(6);
    expect(calls.list.mock.calls.map(([filter]) => filter?.cursor)).toEqual([undefined, "c1"]);
  });
});

describe("the grid by keyboard", () => {
  it("has one tab stop, which the arrow keys move", async () => {
    const { services } = fakeServices(PHOTOS);
    renderGallery(services, <GalleryPage />);
    (await link("a")).focus();
    await userEvent.keyboard("{ArrowRight}{ArrowRight}");
    expect(document.activeElement).toBe(await link("c"));
    expect(screen.getAllByRole("link").filter((each) => each.tabIndex === 0)).toEqual([
      await link("c"),
    ]);
    await userEvent.keyboard("{Control>}{Home}{/Control}");
    expect(document.activeElement).toBe(await link("a"));
  });

  it("selects with the space bar, a range with shift, and ends with Escape", async () => {
    const { services } = fakeServices(PHOTOS);
    const { container } = renderGallery(services, <GalleryPage />);
    (await link("b")).focus();
    await userEvent.keyboard(" {Shift>}{ArrowRight}{ArrowRight}{/Shift}");
    expect(screen.getByText("3 selected")).toBeTruthy();
    expect(await axeFindings(container)).toEqual([]);
    await userEvent.keyboard("{Escape}");
    expect(screen.queryByText("3 selected")).toBeNull();
  });
});

describe("selected photos", () => {
  it("get tags, each photo once", async () => {
    const { services, calls } = fakeServices(PHOTOS, ["Berge"]);
    renderGallery(services, <GalleryPage />);
    (await link("a")).focus();
    await userEvent.keyboard(" {Shift>}{ArrowRight}{/Shift}");
    await userEvent.click(screen.getByRole("button", { name: "Tag" }));
    await userEvent.type(screen.getByRole("combobox"), "ber{ArrowDown}{Enter}");
    await userEvent.click(screen.getByRole("button", { name: "Add tags" }));
    await screen.findByText("2 photos were tagged");
    expect(calls.addTags.mock.calls.map(([id, tags]) => [id, tags])).toEqual([
      ["a", ["Berge"]],
      ["b", ["Berge"]],
    ]);
  });

  it("are hidden when deleted, and are back when that is undone", async () => {
    const { services, calls } = fakeServices(PHOTOS);
    renderGallery(services, <GalleryPage />);
    (await link("a")).focus();
    await userEvent.keyboard(" {Delete}");
    await waitFor(() => {
      expect(screen.getAllByRole("gridcell")).toHaveLength(5);
    });
    await userEvent.click(screen.getByRole("button", { name: "Undo" }));
    expect(await link("a")).toBeTruthy();
    expect(calls.remove).not.toHaveBeenCalled();
  });

  it("are deleted when the time to undo has passed", async () => {
    const { services, calls } = fakeServices(PHOTOS);
    renderGallery(services, <GalleryPage />);
    (await link("a")).focus();
    await userEvent.keyboard(" {Delete}");
    const [toast] = toaster.store.getState().toasts;
    expect(toast?.duration).toBe(6_000);
    toaster.dismiss(toast?.id ?? 0);
    expect(calls.remove.mock.calls).toEqual([["a"]]);
  });

  it("say how many could not be tagged, and why", async () => {
    const { services, calls } = fakeServices(PHOTOS);
    calls.addTags.mockRejectedValue(new ApiError(409, "TOO_MANY_TAGS", "too many", null));
    renderGallery(services, <GalleryPage />);
    (await link("a")).focus();
    await userEvent.keyboard(" ");
    await userEvent.click(screen.getByRole("button", { name: "Tag" }));
    await userEvent.type(screen.getByRole("combobox"), "Sea{Enter}");
    await userEvent.click(screen.getByRole("button", { name: "Add tags" }));
    await screen.findByText("1 photo could not be tagged");
    expect(screen.getByText(/too many tags/u)).toBeTruthy();
  });
});
