import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { IconButton } from "@/components/common/IconButton";
import { Download, ListChecks, Tag, Trash2, X } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./SelectionBar.module.css";

export interface SelectionBarProps {
  readonly count: number;
  readonly isBusy: boolean;
  readonly onEnd: () => void;
  readonly onAll: () => void;
  readonly onTag: () => void;
  readonly onDownload: () => void;
  readonly onDelete: () => void;
}

/** What can be done with the selected photos; stays in view while the grid moves. */
export function SelectionBar({
  count,
  isBusy,
  onEnd,
  onAll,
  onTag,
  onDownload,
  onDelete,
}: SelectionBarProps) {
  const { t } = useTranslation();
  const isNone = count === 0;
  const actions = [
    { key: "tag", icon: Tag, label: t("gallery.tag"), onClick: onTag },
    {
      key: "download",
      icon: Download,
      label: t("gallery.download"),
      onClick: onDownload,
      isLoading: isBusy,
    },
    { key: "delete", icon: Trash2, label: t("gallery.delete"), onClick: onDelete },
  ];
  return (
    <div className={styles["bar"]} role="toolbar" aria-label={t("gallery.selected", { count })}>
      <IconButton icon={X} label={t("gallery.endSelection")} onClick={onEnd} />
      <p className={styles["count"]} role="status">
        {isNone ? t("gallery.nothingSelected") : t("gallery.selected", { count })}
      </p>
      <Button size="sm" variant="ghost" icon={ListChecks} className={styles["all"]} onClick={onAll}>
        {t("gallery.selectAll")}
      </Button>
      <div className={styles["actions"]}>
        {actions.map(({ key, label, ...rest }) => (
          <Button
            key={key}
            {...rest}
            size="sm"
            disabled={isNone}
            aria-label={label}
            title={label}
            className={classes(styles["action"], key === "delete" && styles["delete"])}
          >
            <span className={styles["label"]}>{label}</span>
          </Button>
        ))}
      </div>
    </div>
  );
}
