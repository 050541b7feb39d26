import { memo, useCallback, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useShallow } from "zustand/react/shallow";
import { IconButton } from "@/components/common/IconButton";
import { useIsPhotoOpen } from "@/components/gallery/cover";
import { isMoving, openCount, shareOfAll } from "@/components/progress/phases";
import { ProgressBar } from "@/components/progress/ProgressBar";
import { ProgressRing } from "@/components/progress/ProgressRing";
import { ChevronDown, CircleAlert, CircleCheck, Grip, Pause, Play, Upload } from "@/design/icons";
import { useUploadActions, useUploadState } from "@/hooks/useUpload";
import { classes } from "@/lib/classes";
import { useFormat } from "@/lib/i18n/format";
import { uiStore, useUi, type PanelPosition } from "@/stores/uiStore";
import { PanelFooter } from "./PanelFooter";
import { PanelTabs } from "./PanelTabs";
import { ConnectionHint } from "./ConnectionHint";
import { summaryText, summaryTone } from "./summaryText";
import { useDraggable } from "./useDraggable";
import { useMediaQuery } from "./useMediaQuery";
import styles from "./UploadProgressPanel.module.css";

/** Below it the panel hides too much of the page to be open unasked. */
const ROOMY = "(min-width: 1100px)";
const PHONE = "(max-width: 640px)";

const savePosition = (position: PanelPosition | null) => {
  uiStore.getState().set({ position });
};

/**
 * What goes on with the uploads, on every page: a floating panel, an icon with a ring when it is
 * collapsed, a sheet on phones. Not there without uploads.
 */
export function UploadProgressPanel() {
  const hasItems = useUploadState((state) => state.summary.total > 0);
  const isPhone = useMediaQuery(PHONE);
  const isRoomy = useMediaQuery(ROOMY);
  const kept = useUi((state) => state.isCollapsed);
  const isSheetOpen = useUi((state) => state.isSheetOpen);
  // The focus follows the button that was pressed, and stays where it is otherwise.
  const [isToggled, setIsToggled] = useState(false);

  const collapse = useCallback(() => {
    setIsToggled(true);
    uiStore.getState().showPanel(false);
  }, []);
  const expand = useCallback(() => {
    setIsToggled(true);
    uiStore.getState().showPanel(true);
  }, []);

  if (!hasItems) return null;
  const isCollapsed = isPhone ? !isSheetOpen : (kept ?? !isRoomy);
  if (isCollapsed) return <CollapsedPanel takesFocus={isToggled} onExpand={expand} />;
  if (isPhone) return <PanelSheet onClose={collapse} />;
  return <FloatingPanel takesFocus={isToggled} onCollapse={collapse} />;
}

/** The element that takes the focus when it appears in place of the one that was pressed. */
function useFocusIf<Target extends HTMLElement>(isWanted: boolean) {
  const target = useRef<Target>(null);
  useEffect(() => {
    if (isWanted) target.current?.focus({ preventScroll: true });
  }, [isWanted]);
  return target;
}

interface FloatingPanelProps {
  readonly takesFocus: boolean;
  readonly onCollapse: () => void;
}

function FloatingPanel({ takesFocus, onCollapse }: FloatingPanelProps) {
  const { t } = useTranslation();
  const panel = useRef<HTMLElement>(null);
  const wanted = useUi((state) => state.position);
  const isCovered = useIsPhotoOpen();
  const drag = useDraggable(panel, wanted, savePosition);
  const button = useFocusIf<HTMLButtonElement>(takesFocus);
  return (
    <section
      ref={panel}
      inert={isCovered}
      aria-label={t("panel.label")}
      className={classes(styles["panel"], drag.isDragging && styles["dragging"])}
      style={{ insetInlineEnd: drag.position.end, insetBlockEnd: drag.position.bottom }}
    >
      <header className={styles["header"]} onPointerDown={drag.onPointerDown}>
        <IconButton
          data-grip
          size="sm"
          icon={Grip}
          label={t("panel.move")}
          className={styles["grip"]}
          onKeyDown={drag.onKeyDown}
        />
        <PanelSummary />
        <PauseButton />
        <IconButton
          ref={button}
          size="sm"
          icon={ChevronDown}
          label={t("panel.collapse")}
          onClick={onCollapse}
        />
      </header>
      <PanelBody />
    </section>
  );
}

function PanelSheet({ onClose }: { readonly onClose: () => void }) {
  const { t } = useTranslation();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
    return () => element?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={t("panel.label")}
      className={classes(styles["panel"], styles["sheet"])}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <header className={styles["header"]}>
        <PanelSummary />
        <PauseButton />
        <IconButton icon={ChevronDown} label={t("panel.collapse")} onClick={onClose} />
      </header>
      <PanelBody />
    </dialog>
  );
}

const PanelBody = memo(function PanelBody() {
  return (
    <>
      <PanelBar />
      <ConnectionHint />
      <PanelTabs />
      <PanelFooter />
    </>
  );
});

function PanelSummary() {
  const { t } = useTranslation();
  const format = useFormat();
  const summary = useUploadState((state) => state.summary);
  const isPaused = useUploadState((state) => state.isPaused);
  const isSending = summary.uploading > 0 && !isPaused;
  const details = [
    openCount(summary) > 0
      ? t("panel.doneOf", { done: summary.completed, total: summary.total })
      : format.bytes(summary.bytesSent),
    isSending && isMoving(summary) && format.speed(summary.bytesPerSecond),
    isSending &&
      summary.secondsLeft !== null &&
      t("panel.timeLeft", { time: format.duration(summary.secondsLeft) }),
  ].filter((detail) => detail !== false);
  return (
    <div className={styles["summary"]}>
      <h2 className={styles["title"]}>{summaryText(t, format, summary, isPaused)}</h2>
      <p className={styles["details"]}>{details.join(" · ")}</p>
    </div>
  );
}

function PanelBar() {
  const { t } = useTranslation();
  const format = useFormat();
  const share = useUploadState((state) => shareOfAll(state.summary));
  const tone = useUploadState((state) => summaryTone(state.summary, state.isPaused));
  return (
    <div className={styles["bar"]}>
      <ProgressBar
        share={share}
        tone={tone}
        label={t("panel.label")}
        valueText={format.percent(share)}
      />
    </div>
  );
}

function PauseButton() {
  const { t } = useTranslation();
  const actions = useUploadActions();
  const isPaused = useUploadState((state) => state.isPaused);
  const canPause = useUploadState(
    ({ summary }) => summary.waiting + summary.uploading + summary.paused > 0,
  );
  if (!canPause) return null;
  return (
    <IconButton
      size="sm"
      icon={isPaused ? Play : Pause}
      label={t(isPaused ? "panel.resumeAll" : "panel.pauseAll")}
      onClick={() => {
        if (isPaused) actions.resumeAll();
        else actions.pauseAll();
      }}
    />
  );
}

interface CollapsedPanelProps {
  readonly takesFocus: boolean;
  readonly onExpand: () => void;
}

function CollapsedPanel({ takesFocus, onExpand }: CollapsedPanelProps) {
  const { t } = useTranslation();
  const format = useFormat();
  const button = useFocusIf<HTMLButtonElement>(takesFocus);
  const isCovered = useIsPhotoOpen();
  const [text, tone, percent] = useUploadState(
    useShallow((state) => [
      summaryText(t, format, state.summary, state.isPaused),
      summaryTone(state.summary, state.isPaused),
      Math.floor(shareOfAll(state.summary) * 100),
    ]),
  );
  const hasEnded = useUploadState((state) => openCount(state.summary) === 0);
  const hasFailed = useUploadState((state) => state.summary.failed > 0);
  const Icon = hasEnded ? (hasFailed ? CircleAlert : CircleCheck) : Upload;
  const label = t("panel.expand", { summary: text });
  return (
    <button
      ref={button}
      type="button"
      inert={isCovered}
      className={styles["collapsed"]}
      aria-expanded={false}
      aria-label={label}
      title={text}
      onClick={onExpand}
    >
      <ProgressRing share={percent / 100} tone={tone} size={52}>
        <Icon aria-hidden size={20} />
      </ProgressRing>
    </button>
  );
}
