import { lazy, Suspense, useEffect, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link, Route, Switch, useLocation } from "wouter";
import { whenIdle } from "@/afterPaint";
import { EmptyState } from "@/components/common/EmptyState";
import { Skeleton } from "@/components/common/Skeleton";
import { AppShell } from "@/components/layout/AppShell";
import { ErrorBoundary } from "@/components/layout/ErrorBoundary";
import { LiveSummary } from "@/components/layout/LiveSummary";
import { UploadProgressPanel } from "@/components/layout/UploadProgressPanel";
import { DropTarget } from "@/components/upload/DropTarget";
import { Search } from "@/design/icons";
import { preloadLists } from "@/components/upload/lazyLists";
import { UploadPage } from "@/pages/UploadPage";

const GalleryPage = lazy(async () => ({
  default: (await import("@/pages/GalleryPage")).GalleryPage,
}));

export interface AppProps {
  /** The menu of who is logged in. */
  readonly account?: ReactNode;
}

/** All pages, and what stays between them: panel, drop target and messages. */
export function App({ account }: AppProps) {
  const [path] = useLocation();
  useEffect(
    () =>
      whenIdle(() => {
        void preloadLists();
      }),
    [],
  );
  return (
    <>
      <AppShell account={account}>
        <ErrorBoundary path={path}>
          <Suspense fallback={<PageSkeleton />}>
            <Switch>
              <Route path="/">
                <UploadPage />
              </Route>
              {/* One route: a photo opens over the grid, which stays as it is. */}
              <Route path="/photos/:id?">
                <GalleryPage />
              </Route>
              <Route>
                <NotFound />
              </Route>
            </Switch>
          </Suspense>
        </ErrorBoundary>
      </AppShell>
      <DropTarget />
      <UploadProgressPanel />
      <LiveSummary />
    </>
  );
}

function PageSkeleton() {
  const { t } = useTranslation();
  return (
    <div aria-busy="true" aria-label={t("common.loading")} role="status">
      <Skeleton width="14rem" height="2rem" />
    </div>
  );
}

function NotFound() {
  const { t } = useTranslation();
  return (
    <EmptyState
      icon={Search}
      headingLevel={1}
      title={t("notFound.title")}
      text={t("notFound.text")}
      action={<Link href="/">{t("notFound.action")}</Link>}
    />
  );
}
