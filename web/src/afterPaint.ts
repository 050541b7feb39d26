/** Moments after a frame. */

/** For a browser that says nothing of its paints. */
const LONGEST_MS = 300;

/**
 * Resolve when something of the page is on the screen; at once in a hidden page, which paints
 * nothing.
 *
 * Not by `requestAnimationFrame`: a frame is shown some time after its callbacks, and work that
 * begins in between comes first.
 */
export function afterPaint(page: Document = document): Promise<void> {
  return new Promise((resolve) => {
    let timer = 0;
    const observer = new PerformanceObserver((list) => {
      if (list.getEntriesByName("first-contentful-paint").length > 0) done();
    });
    const done = () => {
      clearTimeout(timer);
      observer.disconnect();
      page.removeEventListener("visibilitychange", done);
      resolve();
    };
    if (page.visibilityState === "hidden") {
      done();
      return;
    }
    timer = window.setTimeout(done, LONGEST_MS);
    page.addEventListener("visibilitychange", done);
    observer.observe({ type: "paint", buffered: true });
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
