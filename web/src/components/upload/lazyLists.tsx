/**
 * The lists of uploads, loaded after the first view: nobody has uploads before it is there.
 *
 * Only the drawing waits for them. Files are taken, kept and sent by the engine, which is in the
 * first view: a chunk that cannot be loaded costs the sight of a list and no file.
 */
import { Suspense, use, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Skeleton } from "@/components/common/Skeleton";
import { ErrorBoundary } from "@/components/layout/ErrorBoundary";
import type * as lists from "./lists";
import type { SortableRowsProps } from "./SortableRows";
import type { VirtualUploadListProps } from "./VirtualUploadList";

type Lists = typeof lists;

/** Once loaded, lists are drawn without a moment of their fallback. */
let loaded: Lists | null = null;
let loading: Promise<Lists> | null = null;

/** Each render gets the same promise. A rejected one is kept, or its component would ask forever. */
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
  return (
    <ErrorBoundary path="">
      <Suspense fallback={<ListSkeleton />}>{children}</Suspense>
    </ErrorBoundary>
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
