/**
 * The lists of uploads, loaded after the first view: nobody has uploads before it is there.
 *
 * Only the drawing waits for them. Files are taken, kept and sent by the engine, which is in the
 * first view: a chunk that cannot be loaded costs the sight of a list and no file.
 */
import { Suspense, use, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { createStore } from "zustand/vanilla";
import { Button } from "@/components/common/Button";
import { EmptyState } from "@/components/common/EmptyState";
import { Skeleton } from "@/components/common/Skeleton";
import { ErrorBoundary } from "@/components/layout/ErrorBoundary";
import { RotateCw, TriangleAlert } from "@/design/icons";
import type * as lists from "./lists";
import type { SortableRowsProps } from "./SortableRows";
import type { VirtualUploadListProps } from "./VirtualUploadList";

type Lists = typeof lists;

/** Once loaded, lists are drawn without a moment of their fallback. */
let loaded: Lists | null = null;
let loading: Promise<Lists> | null = null;

/** How often people have asked for the lists again; each list on the page tries with the others. */
const tries = createStore(() => 0);

function tryAgain(): void {
  loading = null;
  tries.setState((count) => count + 1, true);
}

/**
 * Each render gets the same promise. A rejected one is kept until somebody asks again, or its
 * component would ask forever.
 */
function loadLists(): Promise<Lists> {
  loading ??= import("./lists").then((found) => {
    loaded = found;
    return found;
  });
  return loading;
}

/** Load the lists before they are needed. What fails is tried again when they are. */
export async function preloadLists(): Promise<void> {
  try {
    await loadLists();
  } catch {
    loading = null;
  }
}

export function QueueRows(props: SortableRowsProps) {
  return (
    <ListBoundary>
      <LoadedQueueRows {...props} />
    </ListBoundary>
  );
}

export function PanelRows(props: VirtualUploadListProps) {
  return (
    <ListBoundary>
      <LoadedPanelRows {...props} />
    </ListBoundary>
  );
}

function LoadedQueueRows(props: SortableRowsProps) {
  const { SortableRows } = loaded ?? use(loadLists());
  return <SortableRows {...props} />;
}

function LoadedPanelRows(props: VirtualUploadListProps) {
  const { VirtualUploadList } = loaded ?? use(loadLists());
  return <VirtualUploadList {...props} />;
}

/** Around a list alone: what is beside it, such as the drop zone, does not need it. */
function ListBoundary({ children }: { readonly children: ReactNode }) {
  const attempt = useStore(tries);
  return (
    <ErrorBoundary path={String(attempt)} failure={<ListFailure />}>
      <Suspense fallback={<ListSkeleton />}>{children}</Suspense>
    </ErrorBoundary>
  );
}

/** Not a defect of the page, which sends on: a reload without a network would lose all of it. */
function ListFailure() {
  const { t } = useTranslation();
  return (
    <div role="alert">
      <EmptyState
        size="sm"
        headingLevel={3}
        tone="danger"
        icon={TriangleAlert}
        title={t("lists.failed")}
        text={t("lists.failedText")}
        action={
          <Button variant="primary" icon={RotateCw} onClick={tryAgain}>
            {t("common.retry")}
          </Button>
        }
      />
    </div>
  );
}

function ListSkeleton() {
  const { t } = useTranslation();
  return (
    <div aria-busy="true" aria-label={t("common.loading")} role="status">
      <Skeleton height="4rem" />
    </div>
  );
}
