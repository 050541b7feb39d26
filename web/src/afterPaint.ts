/** Moments after a frame. */

/** Resolve when the next frame is painted; at once where there is none, in a hidden page. */
export function afterPaint(page: Document = document): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      page.removeEventListener("visibilitychange", done);
      resolve();
    };
    if (page.visibilityState === "hidden") {
      done();
      return;
    }
    // A page that is hidden now paints no frame until it is shown.
    page.addEventListener("visibilitychange", done);
    requestAnimationFrame(() => {
      // The callback comes before the frame is painted, a task of its own after it.
      setTimeout(done);
    });
  });
}

/** Call when there is nothing else to do. Returns how not to. */
export function whenIdle(action: () => void): () => void {
  if (typeof requestIdleCallback === "undefined") {
    // WebKit has none.
    const timer = setTimeout(action, 200);
    return () => {
      clearTimeout(timer);
    };
  }
  const handle = requestIdleCallback(action, { timeout: 2000 });
  return () => {
    cancelIdleCallback(handle);
  };
}
