import { useTranslation } from "react-i18next";
import { EmptyState } from "@/components/common/EmptyState";
import { Images } from "@/design/icons";
import { useDeferredGrowth } from "@/hooks/useDeferredGrowth";
import { useUploadState } from "@/hooks/useUpload";
import { QueueRows } from "./lazyLists";
import { QueueHeader } from "./QueueHeader";
import styles from "./UploadQueue.module.css";

/** All uploads in the order of the queue, which can be changed by pointer and by keyboard. */
export function UploadQueue() {
  const { t } = useTranslation();
  const order = useDeferredGrowth(useUploadState((state) => state.order));
  return (
    <section className={styles["queue"]} aria-labelledby="queue-title">
      <QueueHeader />
      {order.length > 0 ? (
        <QueueRows order={order} />
      ) : (
        <EmptyState
          headingLevel={3}
          size="sm"
          icon={Images}
          title={t("queue.emptyTitle")}
          text={t("queue.emptyText")}
        />
      )}
    </section>
  );
}
