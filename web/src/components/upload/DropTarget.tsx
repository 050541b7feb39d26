import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { CloudUpload, LoaderCircle } from "@/design/icons";
import { collectDrop, collectFiles } from "@/lib/files/collect";
import { collectStore } from "@/stores/collectStore";
import { useAddFiles } from "./useAddFiles";
import styles from "./DropTarget.module.css";

const hasFiles = (data: DataTransfer | null) => data?.types.includes("Files") ?? false;

/** Text is pasted into fields; files are uploaded, wherever the focus is. */
const isPasteOfFiles = (event: ClipboardEvent) => (event.clipboardData?.files.length ?? 0) > 0;

/** Takes photos that are dropped anywhere on the page, or pasted. Once in the page. */
export function DropTarget() {
  const { t } = useTranslation();
  const addFiles = useAddFiles();
  const [isOver, setIsOver] = useState(false);
  // Elements that are entered and left are nested: only the sum says whether the page was left.
  const depth = useRef(0);
  const found = useStore(collectStore, (state) => state.found);

  useEffect(() => {
    const onEnter = (event: DragEvent) => {
      if (!hasFiles(event.dataTransfer)) return;
      depth.current += 1;
      setIsOver(true);
    };
    const onOver = (event: DragEvent) => {
      if (!hasFiles(event.dataTransfer)) return;
      // Without it the browser would open the file in place of the page.
      event.preventDefault();
      if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
    };
    const onLeave = (event: DragEvent) => {
      if (!hasFiles(event.dataTransfer)) return;
      depth.current = Math.max(0, depth.current - 1);
      if (depth.current === 0) setIsOver(false);
    };
    const onDrop = (event: DragEvent) => {
      depth.current = 0;
      setIsOver(false);
      const data = event.dataTransfer;
      if (!data || !hasFiles(data)) return;
      event.preventDefault();
      const items = [...data.items];
      addFiles((onFound) => collectDrop(items, onFound));
    };
    const onPaste = (event: ClipboardEvent) => {
      if (!isPasteOfFiles(event)) return;
      event.preventDefault();
      const files = [...(event.clipboardData?.files ?? [])];
      addFiles(() => collectFiles(files));
    };
    window.addEventListener("dragenter", onEnter);
    window.addEventListener("dragover", onOver);
    window.addEventListener("dragleave", onLeave);
    window.addEventListener("drop", onDrop);
    window.addEventListener("paste", onPaste);
    return () => {
      window.removeEventListener("dragenter", onEnter);
      window.removeEventListener("dragover", onOver);
      window.removeEventListener("dragleave", onLeave);
      window.removeEventListener("drop", onDrop);
      window.removeEventListener("paste", onPaste);
    };
  }, [addFiles]);

  return (
    <>
      {isOver && (
        <div className={styles["overlay"]}>
          <div className={styles["frame"]}>
            <span className={styles["icon"]}>
              <CloudUpload aria-hidden size={40} strokeWidth={1.75} />
            </span>
            <p className={styles["title"]}>{t("drop.overlay")}</p>
            <p className={styles["text"]}>{t("drop.overlayText")}</p>
          </div>
        </div>
      )}
      <div role="status" className={styles["status"]}>
        {found !== null && (
          <p className={styles["reading"]}>
            <LoaderCircle aria-hidden size={16} className={styles["spinner"]} />
            {t("drop.reading", { count: found })}
          </p>
        )}
      </div>
    </>
  );
}
