/**
 * The page with a made-up store, to look at its states. Not in the bundle: `npm run dev`, then
 * /dev/states.html?files=100&theme=dark&lang=de&scene=mixed&live=polling
 */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "@/design/tokens.css";
import "@/design/base.css";
import { App } from "@/App";
import { IconButton } from "@/components/common/IconButton";
import { Menu } from "@/components/common/Menu";
import { CircleUser, LogOut } from "@/design/icons";
import { Toasts } from "@/components/common/Toasts";
import { applyTheme, THEMES } from "@/design/theme";
import { UploadProvider } from "@/hooks/useUpload";
import { setLanguage, startI18n } from "@/lib/i18n";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import { createFakeUploads, sampleItems, SCENES } from "./fakeUploads";

const wanted = new URLSearchParams(location.search);
const theme = THEMES.find((one) => one === wanted.get("theme")) ?? "auto";
const scene = SCENES.find((one) => one === wanted.get("scene")) ?? "mixed";
const live = wanted.get("live");
const uploads = createFakeUploads(sampleItems(Number(wanted.get("files") ?? 12), scene), {
  live: live === "polling" || live === "offline" ? live : "stomp",
  isOnline: live !== "offline",
  isPaused: scene === "paused",
});

uiStore.getState().set({ theme });
applyTheme(theme);
await startI18n("en");
await setLanguage(wanted.get("lang") ?? "en");
if (wanted.get("dir") === "rtl") document.documentElement.dir = "rtl";

function Account() {
  return (
    <Menu
      header="ann@example.com"
      items={[{ id: "out", label: "Log out", icon: LogOut, onSelect: () => undefined }]}
      trigger={(props) => <IconButton {...props} icon={CircleUser} label="Account" />}
    />
  );
}

// Routes are those of the product: the page says that it is at one of them.
history.replaceState(null, "", wanted.get("path") ?? "/");

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <UploadProvider engine={uploads}>
        <App account={<Account />} />
      </UploadProvider>
      <Toasts />
    </StrictMode>,
  );
}

if (wanted.has("toasts")) {
  toaster.show({ tone: "success", title: "100 photos uploaded", duration: null });
  toaster.show({
    tone: "warning",
    title: "98 photos uploaded, 2 failed",
    action: { label: "Show failed", onAction: () => undefined },
    duration: null,
  });
  toaster.show({
    tone: "danger",
    title: "There was no photo in it",
    text: "Choose pictures, or a folder that contains some.",
    duration: null,
  });
}
