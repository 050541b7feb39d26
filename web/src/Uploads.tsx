import { useDeferredValue, useEffect, useMemo, useState, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { createStore } from "zustand/vanilla";
import { AccountMenu } from "@/components/auth/AccountMenu";
import { useSession, useUserQuery } from "@/components/auth/session";
import { Unreachable } from "@/components/auth/Unreachable";
import { LoadingShell } from "@/components/layout/LoadingShell";
import { resultText } from "@/components/layout/summaryText";
import { UploadProvider, useUploadEngine } from "@/hooks/useUpload";
import { useUploadLimits } from "@/hooks/useUploadLimits";
import { useWebSocket } from "@/hooks/useWebSocket";
import { createApi } from "@/lib/api/client";
import { uploadCalls } from "@/lib/api/upload";
import { createUploadEngine, type UploadEngine } from "@/lib/engine/engine";
import { createLiveRelay, type LiveRelay } from "@/lib/websocket/relay";
import { toaster } from "@/stores/toastStore";
import { uiStore } from "@/stores/uiStore";
import type { BatchEnd } from "@/stores/uploadTypes";

/** Engines of people who have logged out: nothing of theirs stays in this browser. */
const loggedOut = new WeakSet<UploadEngine>();

interface Running {
  readonly engine: UploadEngine;
  readonly relay: LiveRelay;
}

/** Run the uploads of who is logged in, on every page. They stop when somebody else is. */
export function Uploads({ children }: { readonly children: ReactNode }) {
  const session = useSession();
  const user = useUserQuery();
  const owner = user.data?.userId;
  const [holder] = useState(() =>
    createStore<{ readonly running: Running | null }>(() => ({ running: null })),
  );
  const running = useStore(holder, (state) => state.running);

  useEffect(() => {
    if (owner === undefined) return;
    const relay = createLiveRelay();
    const created = createUploadEngine({
      baseUrl: session.baseUrl,
      session,
      owner,
      live: () => relay,
    });
    const applyConcurrency = () => {
      const { concurrency } = uiStore.getState();
      if (concurrency !== created.store.getState().concurrency) {
        created.setConcurrency(concurrency);
      }
    };
    applyConcurrency();
    const unsubscribe = uiStore.subscribe(applyConcurrency);
    holder.setState({ running: { engine: created, relay } });
    void created.start();
    return () => {
      created.stop();
      if (loggedOut.has(created)) void created.forget();
      unsubscribe();
      holder.setState({ running: null });
    };
  }, [session, owner, holder]);

  // A new engine draws the whole page: in slices, between which the browser answers people.
  const drawn = useDeferredValue(running);
  if (owner === undefined && user.isError) {
    // A token is here, and who has it is not known: the gateway, or one in between, failed then.
    return <Unreachable onRetry={() => void user.refetch()} />;
  }
  if (!running || drawn !== running) return <LoadingShell />;
  return (
    <UploadProvider engine={running.engine}>
      <FromGateway {...running} />
      <BatchToasts engine={running.engine} />
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

/** What the engine hears of the gateway by itself: changes of photos, and the operator's limits. */
function FromGateway({ engine, relay }: Running) {
  const session = useSession();
  const { baseUrl } = session;
  useWebSocket({ relay, listener: engine.listener, session, baseUrl });
  const calls = useMemo(() => uploadCalls(createApi(baseUrl, session)), [baseUrl, session]);
  useUploadLimits(engine, calls);
  return null;
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
