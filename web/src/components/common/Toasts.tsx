import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useStore } from "zustand";
import { CircleAlert, CircleCheck, Info, TriangleAlert, X } from "@/design/icons";
import { classes } from "@/lib/classes";
import { toaster as pageToaster, type Toast, type Toaster } from "@/stores/toastStore";
import { Button } from "./Button";
import { IconButton } from "./IconButton";
import styles from "./Toasts.module.css";

const ICONS = {
  info: Info,
  success: CircleCheck,
  warning: TriangleAlert,
  danger: CircleAlert,
} as const;

/** The corner of the page in which messages appear. One of them in the page. */
export function Toasts({ toaster = pageToaster }: { readonly toaster?: Toaster }) {
  const { t } = useTranslation();
  const toasts = useStore(toaster.store, (state) => state.toasts);
  const [isHeld, setIsHeld] = useState(false);
  return (
    // Pointer and focus only stop the clock (WCAG 2.2.1); there is nothing to operate.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <section
      aria-label={t("toasts.region")}
      className={styles["region"]}
      onPointerEnter={() => {
        setIsHeld(true);
      }}
      onPointerLeave={() => {
        setIsHeld(false);
      }}
      onFocus={() => {
        setIsHeld(true);
      }}
      onBlur={() => {
        setIsHeld(false);
      }}
    >
      {/* Is there before its messages are: a region that comes with its text is not read out. */}
      <div role="status" aria-live="polite" aria-atomic="false" className={styles["list"]}>
        {toasts.map((toast) => (
          <ToastCard key={toast.id} toast={toast} toaster={toaster} isHeld={isHeld} />
        ))}
      </div>
    </section>
  );
}

interface ToastCardProps {
  readonly toast: Toast;
  readonly toaster: Toaster;
  readonly isHeld: boolean;
}

function ToastCard({ toast, toaster, isHeld }: ToastCardProps) {
  const { t } = useTranslation();
  const { id, duration } = toast;
  useEffect(() => {
    if (duration === null || isHeld) return;
    const timer = setTimeout(() => {
      toaster.dismiss(id);
    }, duration);
    return () => {
      clearTimeout(timer);
    };
  }, [toaster, id, duration, isHeld]);
  const Icon = ICONS[toast.tone];
  return (
    <div className={classes(styles["toast"], styles[toast.tone])}>
      <Icon aria-hidden size={20} className={styles["icon"]} />
      <div className={styles["content"]}>
        <p className={styles["title"]}>{toast.title}</p>
        {toast.text !== undefined && <p className={styles["text"]}>{toast.text}</p>}
      </div>
      {toast.action && (
        <Button
          size="sm"
          variant="ghost"
          className={styles["action"]}
          onClick={() => {
            toaster.act(id);
          }}
        >
          {toast.action.label}
        </Button>
      )}
      <IconButton
        icon={X}
        size="sm"
        label={t("toasts.dismiss")}
        onClick={() => {
          toaster.dismiss(id);
        }}
      />
    </div>
  );
}
