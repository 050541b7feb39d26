import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { beforeEach, expect, test, vi } from "vitest";
import { GalleryProvider } from "@/components/gallery/services";
import { UploadProvider } from "@/hooks/useUpload";
import { createFakeUploads } from "../dev/fakeUploads";
import { fakeServices, photo, prepareGallery } from "../tests/gallery";
import { prepareBrowser } from "../tests/uploads";
import { App } from "./App";

vi.mock("@/pages/PhotoPage", () => {
  throw new TypeError("Failed to fetch dynamically imported module");
});

beforeEach(async () => {
  await prepareBrowser();
  await prepareGallery();
  vi.spyOn(console, "error").mockImplementation(() => undefined); // React writes the failure
});

test("a photo's page that cannot be loaded leaves the others in reach", async () => {
  history.replaceState(null, "", "/photos/a");
  render(
    <QueryClientProvider
      client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}
    >
      <GalleryProvider value={fakeServices([photo("a")]).services}>
        <UploadProvider engine={createFakeUploads([])}>
          <App />
        </UploadProvider>
      </GalleryProvider>
    </QueryClientProvider>,
  );
  const reload = await screen.findByRole("button", { name: "Reload the page" });
  expect(reload.closest("[inert]")).toBeNull();
  const [gallery] = screen.getAllByRole("link", { name: "Gallery" });
  await userEvent.click(gallery ?? document.body);
  expect(await screen.findByRole("link", { name: /^a\.jpg/u })).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Reload the page" })).toBeNull();
});
