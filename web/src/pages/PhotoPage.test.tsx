import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "@/lib/api/errors";
import { toaster } from "@/stores/toastStore";
import { axeFindings } from "../../tests/axe";
import { detailed, fakeServices, photo, prepareGallery, renderGallery } from "../../tests/gallery";
import PhotoPage from "./PhotoPage";

const PHOTOS = ["a", "b", "c"].map((id) => photo(id));

beforeEach(async () => {
  await prepareGallery();
  for (const toast of toaster.store.getState().toasts) toaster.dismiss(toast.id);
});

function open(photoId: string, photos = PHOTOS, fake = fakeServices(photos)) {
  const props = { onShow: vi.fn(), onClose: vi.fn(), onMore: vi.fn() };
  renderGallery(
    fake.services,
    <PhotoPage photoId={photoId} photos={photos} hasMore={false} {...props} />,
  );
  return { ...fake, ...props };
}

describe("PhotoPage", () => {
  it("is a dialog that names the photo and takes the focus, without findings", async () => {
    const { calls } = open("b");
    const dialog = await screen.findByRole("dialog", { name: "Photo b.jpg" });
    expect(document.activeElement).toBe(dialog);
    expect(screen.getByText("2 of 3")).toBeTruthy();
    await waitFor(() => {
      expect(calls.get).toHaveBeenCalled();
    });
    await screen.findByText("The file has no details of a camera.");
    expect(await axeFindings(dialog)).toEqual([]);
  });

  it("goes to the next and the previous photo by arrow keys, and closes by Escape", async () => {
    const { onShow, onClose } = open("b");
    await userEvent.keyboard("{ArrowRight}{ArrowLeft}{Escape}");
    expect(onShow.mock.calls).toEqual([["c"], ["a"]]);
    expect(onClose).toHaveBeenCalledWith("b");
  });

  it("keeps its keys when the button that had the focus is gone", async () => {
    const { onShow } = open("b");
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    await userEvent.keyboard("{ArrowRight}");
    expect(onShow).toHaveBeenCalledWith("c");
  });

  it("leaves the arrow keys to a field", async () => {
    const { onShow } = open("b");
    await userEvent.type(await screen.findByRole("combobox"), "{ArrowRight}i");
    expect(onShow).not.toHaveBeenCalled();
    expect(screen.getByRole("complementary", { name: "Details" })).toBeTruthy();
  });

  it("shows what the camera wrote in human terms", async () => {
    const fake = fakeServices(PHOTOS);
    const exif = {
      exposure_seconds: 0.008,
      f_number: 2.8,
      iso: 200,
      taken_at: "2026-11-28T16:12:00",
    };
    fake.calls.get.mockResolvedValue(detailed(photo("b"), { exif }));
    open("b", PHOTOS, fake);
    for (const text of ["1/125 s", "f/2.8", "ISO 200", /time zone is not known/u]) {
      expect(await screen.findByText(text)).toBeTruthy();
    }
  });

  it("shows the place on request only, and sends nobody there by itself", async () => {
    const fake = fakeServices(PHOTOS);
    const location = { latitude: 46.41031, longitude: 11.8375 };
    fake.calls.get.mockResolvedValue(detailed(photo("b"), { location }));
    open("b", PHOTOS, fake);
    const button = await screen.findByRole("button", { name: "Show the place" });
    expect(document.body.textContent).not.toContain("46.4");
    await userEvent.click(button);
    expect(screen.getByText(/46\.41031° N/u)).toBeTruthy();
    const map = screen.getByRole("link", { name: "Open in OpenStreetMap" });
    expect(map.getAttribute("rel")).toContain("noreferrer");
    expect(document.querySelector('img[src*="openstreetmap"], iframe')).toBeNull();
  });

  it("adds a tag at once, and takes it back if the server refuses", async () => {
    const fake = fakeServices(PHOTOS);
    fake.calls.addTags.mockRejectedValue(new ApiError(409, "TOO_MANY_TAGS", "too many", null));
    open("b", PHOTOS, fake);
    await screen.findByText("The file has no details of a camera.");
    await userEvent.type(screen.getByRole("combobox"), "Sea{Enter}");
    await screen.findByText(/too many tags/u);
    expect(screen.queryByRole("button", { name: "Remove the tag Sea" })).toBeNull();
  });

  it("goes on to the next photo after deleting, and sends nothing before the time to undo", async () => {
    const { onShow, calls } = open("b");
    await userEvent.click(await screen.findByRole("button", { name: "Delete" }));
    expect(onShow).toHaveBeenCalledWith("c");
    expect(calls.remove).not.toHaveBeenCalled();
    const [toast] = toaster.store.getState().toasts;
    toaster.dismiss(toast?.id ?? 0);
    expect(calls.remove.mock.calls).toEqual([["b"]]);
  });

  it("offers to process a failed photo again", async () => {
    const failed = photo("x", { status: "FAILED", reason: "CORRUPT", thumbnails: [] });
    const { reprocess } = open("x", [failed]);
    reprocess.mockRejectedValue(new ApiError(501, "REPROCESSING_DISABLED", "off", null));
    await userEvent.click(await screen.findByRole("button", { name: "Process again" }));
    await screen.findByText(/cannot process a photo again/u);
    expect(reprocess.mock.calls[0]?.[0]).toBe("x");
  });

  it("leads to the upload for a photo that never arrived", async () => {
    const missing = photo("x", { status: "FAILED", reason: "NOT_ARRIVED", thumbnails: [] });
    open("x", [missing]);
    expect(await screen.findByRole("button", { name: "Go to the upload" })).toBeTruthy();
    expect(screen.queryByRole("button", { name: "Process again" })).toBeNull();
  });

  it("says that a photo is gone, and leads back", async () => {
    const fake = fakeServices([]);
    fake.calls.get.mockRejectedValue(new ApiError(404, "PHOTO_NOT_FOUND", "gone", null));
    const { onClose } = open("x", [], fake);
    await userEvent.click(await screen.findByRole("button", { name: "Back to the photos" }));
    expect(onClose).toHaveBeenCalledWith("x");
  });
});
