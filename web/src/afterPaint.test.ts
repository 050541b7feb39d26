import { afterEach, expect, test, vi } from "vitest";
import { afterPaint, whenIdle } from "./afterPaint";

/** Entries are delivered by the test. */
class FakeObserver {
  static readonly open = new Set<FakeObserver>();
  constructor(readonly deliver: (list: { getEntriesByName(name: string): object[] }) => void) {}
  observe() {
    FakeObserver.open.add(this);
  }
  disconnect() {
    FakeObserver.open.delete(this);
  }
}

function paint(name: string) {
  for (const observer of FakeObserver.open) {
    observer.deliver({ getEntriesByName: (wanted) => (wanted === name ? [{}] : []) });
  }
}

function page(visibilityState: DocumentVisibilityState) {
  return Object.assign(new EventTarget(), { visibilityState }) as unknown as Document;
}

/** Whether it has resolved, after everything that is due now. */
async function isOver(promise: Promise<void>): Promise<boolean> {
  let isDone = false;
  void promise.then(() => {
    isDone = true;
  });
  await Promise.resolve();
  await Promise.resolve();
  return isDone;
}

function prepare() {
  vi.useFakeTimers();
  vi.stubGlobal("PerformanceObserver", FakeObserver);
}

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("waits until something with content is on the screen", async () => {
  prepare();
  const painted = afterPaint(page("visible"));
  paint("first-paint");
  expect(await isOver(painted)).toBe(false);
  paint("first-contentful-paint");
  expect(await isOver(painted)).toBe(true);
  expect(FakeObserver.open.size).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});

test("does not wait for paints that nobody sees, or that no browser tells of", async () => {
  prepare();
  expect(await isOver(afterPaint(page("hidden")))).toBe(true);
  const left = page("visible");
  const painted = afterPaint(left);
  left.dispatchEvent(new Event("visibilitychange"));
  expect(await isOver(painted)).toBe(true);
  const silent = afterPaint(page("visible"));
  expect(await isOver(silent)).toBe(false);
  vi.runAllTimers();
  expect(await isOver(silent)).toBe(true);
  expect(FakeObserver.open.size).toBe(0);
});

test("does later what is left, unless it is not wanted any more", () => {
  prepare();
  vi.stubGlobal("requestIdleCallback", undefined); // as in WebKit
  const action = vi.fn();
  whenIdle(action)();
  vi.runAllTimers();
  expect(action).not.toHaveBeenCalled();
  whenIdle(action);
  expect(action).not.toHaveBeenCalled();
  vi.runAllTimers();
  expect(action).toHaveBeenCalledOnce();
});
