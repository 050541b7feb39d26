import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { App } from "@/App";
import { SessionProvider } from "@/components/auth/session";
import { SessionGate } from "@/components/auth/SessionGate";
import { reportMissing } from "@/components/common/missingLanguage";
import { Toasts } from "@/components/common/Toasts";
import { createGalleryServices, GalleryProvider } from "@/components/gallery/services";
import { applyTheme } from "@/design/theme";
import { api, BASE_URL, firstUser, link, session } from "@/first";
import { photoCalls } from "@/lib/api/photos";
import { uploadCalls } from "@/lib/api/upload";
import { i18n, pickLanguage, setLanguage, startI18n } from "@/lib/i18n";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import { Account, Uploads } from "@/Uploads";
import { prepareUserQuery } from "@/userQuery";

/** Draw the page in place of the shell. To be called once. */
export async function start(element: HTMLElement): Promise<void> {
  applyTheme(uiStore.getState().theme);
  uiStore.subscribe((state, before) => {
    if (state.theme !== before.theme) applyTheme(state.theme);
    if (state.language !== before.language) {
      void reportMissing(setLanguage(pickLanguage(state.language, navigator.languages)));
    }
  });
  const queries = new QueryClient({
    // The client repeats what can be repeated itself.
    defaultOptions: { queries: { retry: false, staleTime: 5_000 } },
  });
  prepareUserQuery(queries, session, firstUser);
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
  await reportMissing(startI18n(uiStore.getState().language));
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
