import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import { useUploadActions } from "@/hooks/useUpload";
import type { Collected, OnFound } from "@/lib/files/collect";
import { collectStore } from "@/stores/collectStore";
import { toaster } from "@/stores/toastStore";

/** Folders of thousands of files report each one: the page follows ten times a second. */
const REPORT_MS = 100;

/** Add what `collect` finds to the queue; says so if there is nothing, or what cannot be read. */
export function useAddFiles(): (
  collect: (onFound: OnFound) => Collected | Promise<Collected>,
) => void {
  const { t } = useTranslation();
  const actions = useUploadActions();
  return useCallback(
    (collect) => {
      let reportedAt = performance.now();
      const onFound: OnFound = (found) => {
        const now = performance.now();
        if (now - reportedAt < REPORT_MS) return;
        reportedAt = now;
        collectStore.setState({ found });
      };
      void (async () => {
        try {
          const { sources, unreadable } = await collect(onFound);
          if (sources.length > 0) actions.add(sources);
          if (unreadable > 0) {
            toaster.show({ tone: "warning", title: t("drop.unreadable", { count: unreadable }) });
          } else if (sources.length === 0) {
            toaster.show({
              tone: "info",
              title: t("drop.nothingTitle"),
              text: t("drop.nothingText"),
            });
          }
        } finally {
          collectStore.setState({ found: null });
        }
      })();
    },
    [actions, t],
  );
}
