import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import "@/design/tokens.css";
import "@/design/base.css";
import { App } from "@/App";
import { takeLoginLink } from "@/components/auth/loginLink";
import { SessionProvider } from "@/components/auth/session";
import { SessionGate } from "@/components/auth/SessionGate";
import { Toasts } from "@/components/common/Toasts";
import { createGalleryServices, GalleryProvider } from "@/components/gallery/services";
import { applyTheme } from "@/design/theme";
import { createSession } from "@/lib/api/auth";
import { createApi } from "@/lib/api/client";
import { photoCalls } from "@/lib/api/photos";
import { uploadCalls } from "@/lib/api/upload";
import { i18n, pickLanguage, setLanguage, startI18n } from "@/lib/i18n";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import { Account, Uploads } from "@/Uploads";

/** The page comes from the gateway itself. */
const BASE_URL = "";

// Before anything else reads or keeps the address: it may hold the secret of a log-in link.
const link = takeLoginLink();

applyTheme(uiStore.getState().theme);
uiStore.subscribe((state, before) => {
  if (state.theme !== before.theme) applyTheme(state.theme);
  if (state.language !== before.language) {
    void setLanguage(pickLanguage(state.language, navigator.languages));
  }
});

const session = createSession({ baseUrl: BASE_URL });
const api = createApi(BASE_URL, session);
const queries = new QueryClient({
  // The client repeats what can be repeated itself.
  defaultOptions: { queries: { retry: false, staleTime: 5_000 } },
});
const gallery = createGalleryServices({
  baseUrl: BASE_URL,
  session,
  photos: photoCalls(api),
  uploads: uploadCalls(api),
  queries,
  onDeleteFailed: (count) => {
    toaster.show({ tone: "danger", title: i18n.t("gallery.deleteFailed", { count }) });
  },
});

async function show(element: HTMLElement): Promise<void> {
  await startI18n(uiStore.getState().language);
  createRoot(element).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <SessionProvider value={session}>
          <GalleryProvider value={gallery}>
            <SessionGate link={link}>
              <Uploads>
                <App account={<Account />} />
              </Uploads>
            </SessionGate>
            <Toasts />
          </GalleryProvider>
        </SessionProvider>
      </QueryClientProvider>
    </StrictMode>,
  );
}

const root = document.getElementById("root");
if (root) void show(root);
