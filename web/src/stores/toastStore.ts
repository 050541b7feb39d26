/** Short messages about what has just happened. */
import { createStore, type StoreApi } from "zustand/vanilla";

export type ToastTone = "info" | "success" | "warning" | "danger";

export interface Toast {
  readonly id: number;
  readonly tone: ToastTone;
  readonly title: string;
  readonly text?: string;
  /** Such as undoing it. The toast goes when it was used. */
  readonly action?: { readonly label: string; readonly onAction: () => void };
  /** Milliseconds that it stays, not counting those under the pointer; null: until dismissed. */
  readonly duration: number | null;
  /** Called once, when it goes without its action having been used. */
  readonly onExpire?: () => void;
}

export type NewToast = Omit<Toast, "id" | "duration"> & { readonly duration?: number | null };

interface ToastState {
  readonly toasts: readonly Toast[];
}

/** More than these would hide the page: the oldest goes. */
const MAX_TOASTS = 4;
const DEFAULT_DURATION_MS = 8_000;

export interface Toaster {
  readonly store: StoreApi<ToastState>;
  /** Returns the id, with which it can be dismissed. */
  show(toast: NewToast): number;
  dismiss(id: number): void;
  act(id: number): void;
}

export function createToaster(): Toaster {
  const store = createStore<ToastState>(() => ({ toasts: [] }));
  let lastId = 0;
  const remove = (id: number): Toast | undefined => {
    const toast = store.getState().toasts.find((one) => one.id === id);
    if (toast) store.setState(({ toasts }) => ({ toasts: toasts.filter((one) => one !== toast) }));
    return toast;
  };
  const dismiss = (id: number) => {
    remove(id)?.onExpire?.();
  };
  return {
    store,
    show(toast) {
      lastId += 1;
      const added: Toast = { duration: DEFAULT_DURATION_MS, ...toast, id: lastId };
      store.setState(({ toasts }) => ({ toasts: [...toasts, added] }));
      const [oldest] = store.getState().toasts;
      if (oldest && store.getState().toasts.length > MAX_TOASTS) dismiss(oldest.id);
      return added.id;
    },
    dismiss,
    act(id) {
      remove(id)?.action?.onAction();
    },
  };
}

/** The one of the page. */
export const toaster = createToaster();
