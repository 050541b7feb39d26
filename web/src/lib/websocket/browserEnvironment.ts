/** The browser, or Node in tests, as live updates see it. */
import type { LiveEnvironment } from "./transport";

/** Return the environment of this page. */
export function browserEnvironment(): LiveEnvironment {
  const page = typeof document === "undefined" ? null : document;
  const view = typeof window === "undefined" ? null : window;
  return {
    now: () => performance.now(),
    random: () => Math.random(),
    setTimer: (run, ms) => Number(setTimeout(run, ms)),
    clearTimer: (timer) => {
      clearTimeout(timer);
    },
    fetch: (url, init) => fetch(url, init),
    openSocket: (url, protocol) => new WebSocket(url, [protocol]),
    isHidden: () => page?.visibilityState === "hidden",
    // Node has a navigator that does not know.
    isOnline: () => view === null || view.navigator.onLine,
    onWake: (run) => {
      const onVisible = (): void => {
        if (page?.visibilityState === "visible") run();
      };
      page?.addEventListener("visibilitychange", onVisible);
      for (const name of ["online", "offline", "pageshow"]) view?.addEventListener(name, run);
      return () => {
        page?.removeEventListener("visibilitychange", onVisible);
        for (const name of ["online", "offline", "pageshow"]) view?.removeEventListener(name, run);
      };
    },
  };
}
