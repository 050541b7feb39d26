import { useMemo } from "react";
import type { Active, Announcements, UniqueIdentifier } from "@dnd-kit/core";
import { useTranslation } from "react-i18next";

/** What readers of screens say during a drag, in the language of the page. */
export function useDragTexts(order: readonly string[]) {
  const { t } = useTranslation();
  return useMemo(() => {
    const values = (active: Active, overId: UniqueIdentifier = active.id) => ({
      name: nameOf(active),
      position: order.indexOf(String(overId)) + 1,
      total: order.length,
    });
    const announcements: Announcements = {
      onDragStart: ({ active }) => t("queue.lifted", values(active)),
      onDragOver: ({ active, over }) =>
        over ? t("queue.movedTo", values(active, over.id)) : undefined,
      onDragEnd: ({ active, over }) => t("queue.dropped", values(active, over?.id)),
      onDragCancel: ({ active }) => t("queue.moveCancelled", values(active)),
    };
    return {
      announcements,
      screenReaderInstructions: { draggable: t("queue.instructions") },
    };
  }, [t, order]);
}

/** Rows put their name into their data. */
function nameOf(active: Active): string {
  const name: unknown = active.data.current?.["name"];
  return typeof name === "string" ? name : "";
}
