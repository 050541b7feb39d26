import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { UploadPhase } from "@/stores/uploadTypes";
import { itemOf } from "../../../tests/items";
import { ENDED, TRANSITIONS, type UploadEvent } from "./events";
import { INITIAL_STATE, MAX_CONCURRENCY, reduce, reduceAll } from "./reducer";
import { batchPercent, recount, shownPercent } from "./summary";

const IDS = ["a", "b", "c", "d", "e"];
const PHASES = Object.keys(TRANSITIONS) as UploadPhase[];

const id = fc.constantFrom(...IDS);
const bytes = fc.oneof(fc.integer({ min: -10, max: 5000 }), fc.constantFrom(Number.NaN, Infinity));
const event: fc.Arbitrary<UploadEvent> = fc.oneof(
  fc
    .tuple(id, fc.nat(3000), fc.constantFrom(...PHASES))
    .map(([each, size, phase]): UploadEvent => ({
      type: "added",
      items: [itemOf(each, { size, phase })],
    })),
  fc.uniqueArray(id).map((ids): UploadEvent => ({ type: "removed", ids })),
  fc
    .tuple(id, fc.option(id))
    .map(([each, beforeId]): UploadEvent => ({ type: "moved", id: each, beforeId })),
  fc
    .tuple(id, fc.constantFrom(...PHASES), fc.option(bytes, { nil: undefined }))
    .map(([each, phase, sent]): UploadEvent => ({
      type: "entered",
      id: each,
      phase,
      ...(sent === undefined ? {} : { bytesSent: sent }),
    })),
  fc.tuple(id, bytes).map(([each, sent]): UploadEvent => ({ type: "sent", id: each, bytes: sent })),
  id.map((each): UploadEvent => ({
    type: "assigned",
    id: each,
    jobId: "job",
    photoId: `photo-${each}`,
    strategy: "multipart",
  })),
  id.map((each): UploadEvent => ({ type: "unassigned", id: each, strategy: "single" })),
  id.map((each): UploadEvent => ({ type: "attempted", id: each })),
  id.map((each): UploadEvent => ({ type: "pictured", id: each, url: "u" })),
  fc.nat(100).map((speed): UploadEvent => ({
    type: "measured",
    speeds: new Map([["a", speed]]),
    bytesPerSecond: speed,
    secondsLeft: null,
  })),
  fc.boolean().map((isPaused): UploadEvent => ({ type: "queue", isPaused })),
  fc.integer().map((uploads): UploadEvent => ({ type: "concurrency", uploads })),
);

describe("reduceAll", () => {
  test("sums equal a recount after any events", () => {
    fc.assert(
      fc.property(fc.array(fc.array(event, { maxLength: 8 }), { maxLength: 12 }), (rounds) => {
        let state = INITIAL_STATE;
        for (const events of rounds) {
          state = reduceAll(state, events);
          expect(state.summary).toMatchObject(recount(state.items.values()));
          expect([...state.order].sort()).toEqual([...state.items.keys()].sort());
          for (const item of state.items.values()) {
            expect(item.bytesSent).toBeGreaterThanOrEqual(0);
            expect(item.bytesSent).toBeLessThanOrEqual(item.size);
            expect(shownPercent(item)).toBeLessThanOrEqual(100);
          }
          expect(state.concurrency).toBeGreaterThanOrEqual(1);
          expect(state.concurrency).toBeLessThanOrEqual(MAX_CONCURRENCY);
        }
      }),
    );
  });

  test("ranks are in the order of the queue, however often it is changed by hand", () => {
    const items = IDS.map((each, index) => itemOf(each, { rank: 1e12 + index }));
    const moves = fc.array(fc.tuple(id, fc.option(id)), { maxLength: 200 });
    fc.assert(
      fc.property(moves, (all) => {
        let state = reduce(INITIAL_STATE, { type: "added", items });
        for (const [each, beforeId] of all) {
          state = reduce(state, { type: "moved", id: each, beforeId });
          const ranks = state.order.map((one) => state.items.get(one)?.rank ?? Number.NaN);
          expect(ranks.every((rank, index) => index === 0 || rank > (ranks[index - 1] ?? 0))).toBe(
            true,
          );
        }
      }),
    );
  });

  test("a rank between two neighbours is always found", () => {
    const items = IDS.map((each, index) => itemOf(each, { rank: 1e12 + index }));
    let state = reduce(INITIAL_STATE, { type: "added", items });
    // Each time between the first two: the room between their ranks is halved.
    for (let times = 0; times < 100; times += 1) {
      const [, second, third] = state.order;
      if (second === undefined || third === undefined) throw new Error("There are five.");
      state = reduce(state, { type: "moved", id: third, beforeId: second });
      const sorted = [...state.items.values()].toSorted((one, other) => one.rank - other.rank);
      expect(sorted.map((item) => item.id)).toEqual(state.order);
    }
  });

  test("any number of items gets ranks anew", () => {
    const count = 200_000;
    // All of one rank: there is no room between any two.
    const items = Array.from({ length: count }, (_, index) => itemOf(`${index}`, { rank: 5 }));
    const state = reduceAll(INITIAL_STATE, [
      { type: "added", items },
      { type: "moved", id: `${count - 1}`, beforeId: "1" },
    ]);
    expect(state.order.slice(0, 3)).toEqual(["0", `${count - 1}`, "1"]);
    // One value: the difference of two long lists takes minutes to be written.
    const isRanked = state.order.every((each, index) => state.items.get(each)?.rank === 5 + index);
    expect(isRanked).toBe(true);
  });

  test("items are added in the order of their ranks", () => {
    const addedAs = (...ranks: number[]): UploadEvent => ({
      type: "added",
      items: ranks.map((rank) => itemOf(`${rank}`, { rank })),
    });
    const state = reduceAll(INITIAL_STATE, [addedAs(10, 11), addedAs(2, 3, 12), addedAs(13)]);
    expect(state.order).toEqual(["2", "3", "10", "11", "12", "13"]);
  });

  test("items that no event names keep their identity", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 20 }), event, (events, last) => {
        const before = reduceAll(INITIAL_STATE, events);
        const after = reduce(before, last);
        const named = new Set<string>(
          last.type === "added"
            ? last.items.map((item) => item.id)
            : last.type === "measured"
              ? ["a"]
              : "id" in last
                ? [last.id]
                : [],
        );
        for (const [each, item] of after.items) {
          if (!named.has(each)) expect(item).toBe(before.items.get(each));
        }
      }),
    );
  });

  test("all at once equals one after the other", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 30 }), (events) => {
        expect(reduceAll(INITIAL_STATE, events)).toEqual(events.reduce(reduce, INITIAL_STATE));
      }),
    );
  });

  test("a former state never changes", () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 20 }), fc.array(event), (events, more) => {
        const state = reduceAll(INITIAL_STATE, events);
        const copy = structuredClone(state);
        reduceAll(state, more);
        expect(state).toEqual(copy);
      }),
    );
  });
});

describe("phases", () => {
  test.each(PHASES.flatMap((from) => PHASES.map((to) => [from, to] as const)))(
    "%s leads to %s only if the table says so",
    (from, to) => {
      const state = reduce(INITIAL_STATE, { type: "added", items: [itemOf("a", { phase: from })] });
      const after = reduce(state, { type: "entered", id: "a", phase: to });
      expect(after.items.get("a")?.phase).toBe(TRANSITIONS[from].has(to) ? to : from);
    },
  );

  test("nothing leads out of completed, rejected and duplicate", () => {
    for (const phase of ["completed", "rejected", "duplicate"] as const) {
      expect(TRANSITIONS[phase].size).toBe(0);
      expect(ENDED.has(phase)).toBe(true);
    }
  });

  test("an event without a change gives the same state", () => {
    const state = reduce(INITIAL_STATE, { type: "added", items: [itemOf("a")] });
    expect(reduce(state, { type: "sent", id: "a", bytes: 5 })).toBe(state);
    expect(reduce(state, { type: "queue", isPaused: false })).toBe(state);
    expect(reduce(state, { type: "moved", id: "a", beforeId: null })).toBe(state);
    expect(reduce(state, { type: "entered", id: "x", phase: "sending" })).toBe(state);
  });

  test("a failure belongs to those that have failed", () => {
    const failure = { reason: "CORRUPT", detail: null, canRetry: false };
    const failed = reduceAll(INITIAL_STATE, [
      { type: "added", items: [itemOf("a")] },
      { type: "entered", id: "a", phase: "failed", failure },
    ]);
    expect(failed.items.get("a")?.failure).toEqual(failure);
    const again = reduce(failed, { type: "entered", id: "a", phase: "waiting" });
    expect(again.items.get("a")?.failure).toBeNull();
  });
});

describe("percent", () => {
  test("99 at most until the store has answered", () => {
    expect(shownPercent(itemOf("a", { phase: "sending", bytesSent: 1000 }))).toBe(99);
    expect(shownPercent(itemOf("a", { phase: "sending", bytesSent: 505 }))).toBe(50);
    expect(shownPercent(itemOf("a", { phase: "processing", bytesSent: 1000 }))).toBe(100);
  });

  test("a batch has 100 only when all have arrived", () => {
    const one = reduce(INITIAL_STATE, {
      type: "added",
      items: [itemOf("a", { phase: "sending", bytesSent: 1000 })],
    });
    expect(batchPercent(one.summary)).toBe(99);
    const all = reduce(one, { type: "entered", id: "a", phase: "processing" });
    expect(batchPercent(all.summary)).toBe(100);
  });
});
