import { memo, useMemo, useRef, useState, useLayoutEffect } from "react";
import {
  closestCenter,
  DndContext,
  DragOverlay,
  KeyboardSensor,
  PointerSensor,
  useSensor,
  useSensors,
  type DragEndEvent,
} from "@dnd-kit/core";
import {
  SortableContext,
  sortableKeyboardCoordinates,
  useSortable,
  verticalListSortingStrategy,
} from "@dnd-kit/sortable";
import { CSS } from "@dnd-kit/utilities";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useTranslation } from "react-i18next";
import { IconButton } from "@/components/common/IconButton";
import { GripVertical } from "@/design/icons";
import { useUploadActions, useUploadItem } from "@/hooks/useUpload";
import { classes } from "@/lib/classes";
import { useFormat } from "@/lib/i18n/format";
import { beforeIdOf } from "./queueOrder";
import { useDragTexts } from "./useDragTexts";
import { UploadRow } from "./UploadRow";
import { VirtualRow } from "./VirtualRow";
import styles from "./UploadQueue.module.css";

const ROW_HEIGHT = 84;
/** Rows beside the visible ones, to which a drag by keyboard can go. */
const OVERSCAN = 8;

export interface SortableRowsProps {
  /** Ids, in the order of the queue. */
  readonly order: readonly string[];
}

/** The rows of the queue; those that have not begun are moved by pointer and by keyboard. */
export const SortableRows = memo(function SortableRows({ order }: SortableRowsProps) {
  const { t } = useTranslation();
  const actions = useUploadActions();
  const list = useRef<HTMLUListElement>(null);
  const [scrollMargin, setScrollMargin] = useState(0);
  const [activeId, setActiveId] = useState<string | null>(null);
  const accessibility = useDragTexts(order);
  const items = useMemo(() => [...order], [order]);
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 4 } }),
    useSensor(KeyboardSensor, { coordinateGetter: sortableKeyboardCoordinates }),
  );

  useLayoutEffect(() => {
    const measure = () => {
      setScrollMargin((list.current?.getBoundingClientRect().top ?? 0) + window.scrollY);
    };
    measure();
    const observer = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(measure);
    observer?.observe(document.body);
    return () => {
      observer?.disconnect();
    };
  }, []);

  const virtualizer = useWindowVirtualizer({
    count: order.length,
    estimateSize: () => ROW_HEIGHT,
    getItemKey: (index) => order[index] ?? index,
    overscan: OVERSCAN,
    scrollMargin,
  });

  const onDragEnd = ({ active, over }: DragEndEvent) => {
    setActiveId(null);
    if (!over || active.id === over.id) return;
    const id = String(active.id);
    actions.move(id, beforeIdOf(order, id, String(over.id)));
  };

  return (
    <DndContext
      sensors={sensors}
      collisionDetection={closestCenter}
      accessibility={accessibility}
      onDragStart={({ active }) => {
        setActiveId(String(active.id));
      }}
      onDragEnd={onDragEnd}
      onDragCancel={() => {
        setActiveId(null);
      }}
    >
      <SortableContext items={items} strategy={verticalListSortingStrategy}>
        <ul
          ref={list}
          aria-label={t("queue.label")}
          className={styles["list"]}
          style={{ blockSize: virtualizer.getTotalSize() }}
        >
          {virtualizer.getVirtualItems().map((row) => {
            const id = order[row.index];
            if (id === undefined) return null;
            return (
              <VirtualRow
                key={row.key}
                row={row}
                measure={virtualizer.measureElement}
                total={order.length}
                margin={scrollMargin}
                className={styles["item"]}
              >
                <SortableRow id={id} position={row.index + 1} />
              </VirtualRow>
            );
          })}
        </ul>
      </SortableContext>
      <DragOverlay>
        {activeId !== null && (
          <div className={styles["overlay"]}>
            <UploadRow id={activeId} leading={<span className={styles["leading"]} />} />
          </div>
        )}
      </DragOverlay>
    </DndContext>
  );
});

interface SortableRowProps {
  readonly id: string;
  /** From 1. */
  readonly position: number;
}

const SortableRow = memo(function SortableRow({ id, position }: SortableRowProps) {
  const { t } = useTranslation();
  const format = useFormat();
  const item = useUploadItem(id);
  const phase = item?.phase;
  const name = item?.name ?? "";
  // Only what has not begun has a turn that can be changed.
  const canMove = phase === "waiting" || phase === "paused";
  const {
    attributes,
    listeners,
    setNodeRef,
    setActivatorNodeRef,
    transform,
    transition,
    isDragging,
  } = useSortable({ id, disabled: !canMove, data: { name } });
  const leading = useMemo(
    () => (
      <span className={styles["leading"]}>
        {canMove ? (
          <IconButton
            ref={setActivatorNodeRef}
            {...attributes}
            {...listeners}
            size="sm"
            icon={GripVertical}
            label={t("queue.move", { name })}
            className={styles["handle"]}
          />
        ) : (
          <span className={styles["position"]}>{format.number(position)}</span>
        )}
      </span>
    ),
    [canMove, setActivatorNodeRef, attributes, listeners, t, name, format, position],
  );
  return (
    <div
      ref={setNodeRef}
      className={classes(styles["row"], isDragging && styles["dragged"])}
      style={{ transform: CSS.Translate.toString(transform), transition }}
    >
      <UploadRow id={id} leading={leading} />
    </div>
  );
});
