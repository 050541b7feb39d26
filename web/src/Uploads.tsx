import { useEffect, useState, type ReactNode } from "react";
import { useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { createStore } from "zustand/vanilla";
import { AccountMenu } from "@/components/auth/AccountMenu";
import { useCurrentUser, useSession } from "@/components/auth/session";
import { resultText } from "@/components/layout/summaryText";
import { UploadProvider, useUploadEngine } from "@/hooks/useUpload";
import { createUploadEngine, type UploadEngine } from "@/lib/engine/engine";
import { createLiveUpdates } from "@/lib/websocket/client";
import { withPhotoCache } from "@/lib/websocket/photoCache";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import type { BatchEnd } from "@/stores/uploadTypes";

/** Engines of people who have logged out: nothing of theirs stays in this browser. */
const loggedOut = new WeakSet<UploadEngine>();

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
    const ends: (() => void)[] = [];
    const created = createUploadEngine({
      baseUrl: session.baseUrl,
      session,
      owner,
      live: (listener) => {
        // The gallery hears of the same changes.
        const cached = withPhotoCache(listener, queries);
        ends.push(() => {
          cached.stop();
        });
        return createLiveUpdates({
          baseUrl: session.baseUrl === "" ? window.location.origin : session.baseUrl,
          listener: cached,
          token: (options) => session.token(options),
        });
      },
    });
    const applyConcurrency = () => {
      const { concurrency } = uiStore.getState();
      if (concurrency !== created.store.getState().concurrency) {
        created.setConcurrency(concurrency);
      }
    };
    applyConcurrency();
    ends.push(uiStore.subscribe(applyConcurrency));
    holder.setState({ engine: created });
    void created.start();
    return () => {
      created.stop();
      if (loggedOut.has(created)) void created.forget();
      for (const end of ends) end();
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

/** The account menu. A session that has run out keeps the uploads, for it is logged in again. */
export function Account() {
  const engine = useUploadEngine();
  return (
    <AccountMenu
      onLogOut={() => {
        loggedOut.add(engine);
      }}
    />
  );
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
