import "@/design/tokens.css";
import "@/design/base.css";
import { StrictMode, useEffect, useState, type ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { App } from "@/App";
import { AccountMenu } from "@/components/auth/AccountMenu";
import { takeLoginLink } from "@/components/auth/loginLink";
import { SessionProvider, useCurrentUser } from "@/components/auth/session";
import { SessionGate } from "@/components/auth/SessionGate";
import { createGalleryServices, GalleryProvider } from "@/components/gallery/services";
import { applyTheme } from "@/design/theme";
import { UploadProvider } from "@/hooks/useUpload";
import { createSession } from "@/lib/api/auth";
import { createApi } from "@/lib/api/client";
import { photoCalls } from "@/lib/api/photos";
import { uploadCalls } from "@/lib/api/upload";
import { createUploadEngine, type UploadEngine } from "@/lib/engine/engine";
import { startI18n } from "@/lib/i18n";
import { createLiveUpdates } from "@/lib/websocket/client";
import { uiStore } from "@/stores/uiStore";

const link = takeLoginLink();
const session = createSession({ baseUrl: "" });
const queries = new QueryClient();
const api = createApi("", session);
const services = createGalleryServices({
  baseUrl: "",
  session,
  photos: photoCalls(api),
  uploads: uploadCalls(api),
  queries,
  onDeleteFailed: () => undefined,
});

function Uploads({ children }: { readonly children: ReactNode }) {
  const user = useCurrentUser();
  const owner = user?.userId;
  const [engine, setEngine] = useState<UploadEngine | null>(null);
  useEffect(() => {
    if (owner === undefined) return;
    const made = createUploadEngine({
      baseUrl: "",
      session,
      owner,
      live: (listener) =>
        createLiveUpdates({ baseUrl: "", listener, token: (options) => session.token(options) }),
    });
    made.setConcurrency(uiStore.getState().concurrency);
    const stop = uiStore.subscribe((state) => {
      made.setConcurrency(state.concurrency);
    });
    made.onBatchEnd(() => void queries.invalidateQueries({ queryKey: ["photos"] }));
    void made.start();
    setEngine(made);
    return () => {
      stop();
      made.stop();
    };
  }, [owner]);
  return engine && <UploadProvider engine={engine}>{children}</UploadProvider>;
}

applyTheme(uiStore.getState().theme);
await startI18n(uiStore.getState().language);
const root = document.getElementById("root");
if (root)
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <SessionProvider value={session}>
          <SessionGate link={link}>
            <Uploads>
              <GalleryProvider value={services}>
                <App account={<AccountMenu />} />
              </GalleryProvider>
            </Uploads>
          </SessionGate>
        </SessionProvider>
      </QueryClientProvider>
    </StrictMode>,
  );
