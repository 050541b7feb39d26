import { useEffect, useState, type ReactNode } from "react";
import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { createStore } from "zustand/vanilla";
import { useCurrentUser, useSession } from "@/components/auth/session";
import { resultText } from "@/components/layout/summaryText";
import { UploadProvider } from "@/hooks/useUpload";
import { createUploadEngine, type UploadEngine } from "@/lib/engine/engine";
import { createLiveUpdates } from "@/lib/websocket/client";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import type { BatchEnd } from "@/stores/uploadTypes";

/** Pause between two times that the gallery is asked for photos that were completed. */
const REFRESH_MS = 3_000;

/** Run the uploads of who is logged in, on every page. They stop when somebody else is. */
export function Uploads({ children }: { readonly children: ReactNode }) {
  const session = useSession();
  const owner = useCurrentUser()?.userId;
  const queries = useQueryClient();
  const [holder] = useState(() =>
    createStore<{ readonly engine: UploadEngine | null }>(() => ({ engine: null })),
  );
  const engine = useStore(holder, (state) => state.engine);

  useEffect(() => {
    if (owner === undefined) return;
    const { baseUrl } = session;
    const created = createUploadEngine({
      baseUrl,
      session,
      owner,
      live: (listener) =>
        createLiveUpdates({ baseUrl, listener, token: (options) => session.token(options) }),
    });
    const applyConcurrency = () => {
      const { concurrency } = uiStore.getState();
      if (concurrency !== created.store.getState().concurrency) {
        created.setConcurrency(concurrency);
      }
    };
    applyConcurrency();
    const ends = [uiStore.subscribe(applyConcurrency), refreshGallery(created, queries)];
    holder.setState({ engine: created });
    void created.start();
    return () => {
      for (const end of ends) end();
      created.stop();
      holder.setState({ engine: null });
    };
  }, [session, owner, queries, holder]);

  if (!engine) return null;
  return (
    <UploadProvider engine={engine}>
      <BatchToasts engine={engine} />
      {children}
    </UploadProvider>
  );
}

/** Ask for the photos again when some were completed. Returns how to stop. */
function refreshGallery(engine: UploadEngine, queries: QueryClient): () => void {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const unsubscribe = engine.store.subscribe((state, before) => {
    if (timer !== null || state.summary.completed <= before.summary.completed) return;
    timer = setTimeout(() => {
      timer = null;
      void queries.invalidateQueries({ queryKey: ["photos"] });
    }, REFRESH_MS);
  });
  return () => {
    unsubscribe();
    if (timer !== null) clearTimeout(timer);
  };
}

function BatchToasts({ engine }: { readonly engine: UploadEngine }) {
  const { t } = useTranslation();
  useEffect(
    () =>
      engine.onBatchEnd((end: BatchEnd) => {
        // Who has cancelled it all knows.
        if (end.completed + end.failed === 0) return;
        toaster.show({
          tone: end.failed === 0 ? "success" : end.completed > 0 ? "warning" : "danger",
          title: resultText(t, end),
          ...(end.failed > 0 && {
            action: {
              label: t("toasts.showFailed"),
              onAction: () => {
                uiStore.getState().set({ tab: "failed" });
                uiStore.getState().showPanel(true);
              },
            },
          }),
        });
      }),
    [engine, t],
  );
  return null;
}
