/** Calls once a frame at most; by a timer while the page is hidden and has no frames. */

export interface Batcher {
  schedule(): void;
  /** Call now what was scheduled. */
  flush(): void;
  stop(): void;
}

/** Milliseconds after which a call is made although no frame was drawn. */
const HIDDEN_MS = 250;

export interface Frames {
  request(callback: () => void): number;
  cancel(id: number): void;
}

const BROWSER_FRAMES: Frames = {
  request: (callback) => requestAnimationFrame(callback),
  cancel: (id) => {
    cancelAnimationFrame(id);
  },
};

export function createBatcher(call: () => void, frames: Frames = BROWSER_FRAMES): Batcher {
  let frame: number | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  const clear = () => {
    if (frame !== null) frames.cancel(frame);
    if (timer !== null) clearTimeout(timer);
    frame = null;
    timer = null;
  };
  const run = () => {
    clear();
    call();
  };
  return {
    schedule: () => {
      if (frame !== null || timer !== null) return;
      timer = setTimeout(run, HIDDEN_MS);
      frame = frames.request(run);
    },
    flush: () => {
      if (frame !== null || timer !== null) run();
    },
    stop: clear,
  };
}
