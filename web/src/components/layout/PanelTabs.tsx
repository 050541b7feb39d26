import { useTranslation } from "react-i18next";
import { useShallow } from "zustand/react/shallow";
import { EmptyState } from "@/components/common/EmptyState";
import { Tabs } from "@/components/common/Tabs";
import { openCount } from "@/components/progress/phases";
import { PanelRows } from "@/components/upload/lazyLists";
import { CircleCheck, Images, ListChecks, Upload, type LucideIcon } from "@/design/icons";
import { useUploadState } from "@/hooks/useUpload";
import { useFormat } from "@/lib/i18n/format";
import { PANEL_TABS, uiStore, useUi, type PanelTab } from "@/stores/uiStore";
import type { UploadPhase, UploadState } from "@/stores/uploadTypes";
import styles from "./UploadProgressPanel.module.css";

const OF_TAB: Readonly<Record<PanelTab, ReadonlySet<UploadPhase> | null>> = {
  all: null,
  active: new Set<UploadPhase>(["waiting", "sending", "paused", "needs-file", "processing"]),
  completed: new Set<UploadPhase>(["completed"]),
  failed: new Set<UploadPhase>(["failed", "rejected"]),
};

const EMPTY: Readonly<
  Record<
    PanelTab,
    { readonly icon: LucideIcon; readonly key: "All" | "Active" | "Completed" | "Failed" }
  >
> = {
  all: { icon: Upload, key: "All" },
  active: { icon: ListChecks, key: "Active" },
  completed: { icon: Images, key: "Completed" },
  failed: { icon: CircleCheck, key: "Failed" },
};

/** Ids of a tab, in the order of the queue. */
export function idsOfTab(state: UploadState, tab: PanelTab): readonly string[] {
  const phases = OF_TAB[tab];
  if (phases === null) return state.order;
  return state.order.filter((id) => {
    const item = state.items.get(id);
    return item !== undefined && phases.has(item.phase);
  });
}

export function PanelTabs() {
  const { t } = useTranslation();
  const format = useFormat();
  const selected = useUi((state) => state.tab);
  const counts = useUploadState(
    useShallow(({ summary }) => ({
      all: summary.total,
      active: openCount(summary),
      completed: summary.completed,
      failed: summary.failed,
    })),
  );
  const ids = useUploadState(useShallow((state) => idsOfTab(state, selected)));
  const empty = EMPTY[selected];
  return (
    <Tabs
      label={t("panel.tabs")}
      tabs={PANEL_TABS.map((id) => ({
        id,
        label: t(`panel.${id}`),
        count: format.badge(counts[id]),
        exactCount: format.number(counts[id]),
        tone: id === "failed" && counts.failed > 0 ? "danger" : "neutral",
      }))}
      selected={selected}
      onSelect={(tab) => {
        uiStore.getState().set({ tab });
      }}
      panelClassName={styles["list"]}
      isPanelFocusable={ids.length === 0}
    >
      {ids.length > 0 ? (
        // A list of its own for each tab: it begins at its top, with heights of its own rows.
        <PanelRows key={selected} label={t(`panel.${selected}`)} ids={ids} />
      ) : (
        <EmptyState
          size="sm"
          headingLevel={3}
          icon={empty.icon}
          title={t(`panel.empty${empty.key}`)}
          text={t(`panel.empty${empty.key}Text`)}
        />
      )}
    </Tabs>
  );
}
