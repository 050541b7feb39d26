import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  INITIAL_LADDER,
  PROBE_MS,
  RUNGS,
  climb,
  type LadderCommand,
  type LadderEvent,
  type LadderState,
  type Rung,
} from "./ladder";
import { LOST, type End } from "./transport";

/** A ladder whose clock and whose attempts the test drives. */
class Driven {
  state: LadderState = INITIAL_LADDER;
  now = 0;
  commands: readonly LadderCommand[] = [];
  readonly open = new Set<Rung>();
  readonly due = new Map<Rung, number>();
  transport: string | null = null;

  send(event: LadderEvent): readonly LadderCommand[] {
    const step = climb(this.state, event, this.now, () => 0.5);
    this.state = step.state;
    this.commands = step.commands;
    for (const command of step.commands) this.#obey(command);
    return step.commands;
  }

  down(rung: Rung, kind: End["kind"] = "lost", retryAfterMs: number | null = null): void {
    this.send({ type: "down", rung, end: { kind, retryAfterMs } });
  }

  /** Let the next timer fire. */
  fire(rung: Rung): void {
    this.now = this.due.get(rung) ?? this.now;
    this.due.delete(rung);
    this.send({ type: "due", rung });
  }

  waitOf(rung: Rung): number {
    return (this.due.get(rung) ?? NaN) - this.now;
  }

  #obey(command: LadderCommand): void {
    if (command.type === "report") {
      this.transport = command.transport;
      return;
    }
    if (command.type === "check") return;
    this.due.delete(command.rung);
    this.open.delete(command.rung);
    if (command.type === "open") this.open.add(command.rung);
    if (command.type === "wait") this.due.set(command.rung, this.now + command.ms);
  }
}

function started(isWanted = true): Driven {
  const ladder = new Driven();
  ladder.send({ type: "start", isOnline: true });
  ladder.send({ type: "wanted", isWanted });
  return ladder;
}

/** A ladder on whose first rungs every attempt fails. */
function blocked(...rungs: readonly Rung[]): Driven {
  const ladder = started();
  for (const rung of rungs) {
    ladder.down(rung);
    ladder.fire(rung);
    ladder.down(rung);
  }
  return ladder;
}

describe("ladder", () => {
  it("begins with STOMP alone", () => {
    const ladder = started();
    expect([...ladder.open]).toEqual(["stomp"]);
    expect(ladder.transport).toBe("connecting");
    ladder.send({ type: "up", rung: "stomp" });
    expect(ladder.transport).toBe("stomp");
  });

  it("tries SSE after two failures, beside STOMP", () => {
    const ladder = started();
    ladder.down("stomp");
    expect(ladder.open.has("sse")).toBe(false);
    ladder.fire("stomp");
    ladder.down("stomp");
    expect(ladder.open.has("sse")).toBe(true);
    expect(ladder.due.has("stomp")).toBe(true);
  });

  it("polls when streams fail too", () => {
    const ladder = blocked("stomp", "sse");
    expect(ladder.open.has("polling")).toBe(true);
    ladder.send({ type: "up", rung: "polling" });
    expect(ladder.transport).toBe("polling");
  });

  it("tries a blocked way again every 30 s", () => {
    const ladder = blocked("stomp");
    ladder.send({ type: "up", rung: "sse" });
    expect(ladder.waitOf("stomp")).toBe(PROBE_MS);
    ladder.fire("stomp");
    expect(ladder.open.has("sse")).toBe(true);
    ladder.down("stomp");
    expect(ladder.waitOf("stomp")).toBe(PROBE_MS);
  });

  it("leaves the worse way as soon as the better one is up", () => {
    const ladder = blocked("stomp", "sse");
    ladder.send({ type: "up", rung: "polling" });
    ladder.fire("stomp");
    ladder.send({ type: "up", rung: "stomp" });
    expect([...ladder.open]).toEqual(["stomp"]);
    expect(ladder.due.size).toBe(0);
    expect(ladder.transport).toBe("stomp");
  });

  it("goes back to a way that worked as soon as the server answers", () => {
    const ladder = started();
    ladder.send({ type: "up", rung: "stomp" });
    ladder.now += 60_000;
    ladder.down("stomp");
    for (let attempt = 0; attempt < 2; attempt += 1) {
      ladder.fire("stomp");
      ladder.down("stomp");
    }
    ladder.send({ type: "up", rung: "sse" });
    expect(ladder.waitOf("stomp")).toBeLessThanOrEqual(1_000);
  });

  it("goes back to a way that worked soon, however long the network was gone", () => {
    const ladder = started();
    ladder.send({ type: "up", rung: "stomp" });
    ladder.now += 60_000;
    ladder.down("stomp");
    for (let attempt = 0; attempt < 6; attempt += 1) {
      ladder.fire("stomp");
      ladder.down("stomp");
    }
    ladder.send({ type: "up", rung: "sse" });
    expect(ladder.waitOf("stomp")).toBeLessThanOrEqual(1000);
    ladder.fire("stomp");
    ladder.down("stomp"); // it is blocked now
    expect(ladder.waitOf("stomp")).toBe(PROBE_MS);
  });

  it("is due at once when what worked is gone", () => {
    const ladder = blocked("stomp");
    ladder.send({ type: "up", rung: "sse" });
    ladder.now += 10_000;
    ladder.down("sse");
    expect(ladder.waitOf("stomp")).toBeLessThan(1_000);
    expect(ladder.waitOf("sse")).toBeLessThan(1_000);
  });

  it("does not repeat what is refused, and takes the next way", () => {
    const ladder = started();
    ladder.down("stomp", "refused");
    expect(ladder.open.has("sse")).toBe(true);
    expect(ladder.waitOf("stomp")).toBe(PROBE_MS);
    ladder.send({ type: "wake", isOnline: true });
    expect(ladder.open.has("stomp")).toBe(false);
  });

  it("comes back at once with another token, but not for ever", () => {
    const ladder = started();
    ladder.down("stomp", "token");
    expect(ladder.waitOf("stomp")).toBe(0);
    ladder.fire("stomp");
    ladder.down("stomp", "token");
    expect(ladder.waitOf("stomp")).toBeGreaterThan(0);
  });

  it("exchanges a connection whose token ends without a pause", () => {
    const ladder = started();
    for (let round = 0; round < 5; round += 1) {
      ladder.send({ type: "up", rung: "stomp" });
      ladder.now += 30_000;
      ladder.down("stomp", "token");
      expect(ladder.waitOf("stomp")).toBe(0);
      ladder.fire("stomp");
    }
    expect([...ladder.open]).toEqual(["stomp"]);
  });

  it("keeps the server's delays, except that a restart is scaled", () => {
    const ladder = started();
    ladder.down("stomp", "lost", 7_000);
    expect(ladder.waitOf("stomp")).toBe(7_000);
    ladder.fire("stomp");
    ladder.send({ type: "up", rung: "stomp" });
    ladder.down("stomp", "restart", 5_000);
    expect(ladder.waitOf("stomp")).toBe(2_000);
  });

  it("counts connections that do not last as failures", () => {
    const ladder = started();
    for (let round = 0; round < 2; round += 1) {
      ladder.send({ type: "up", rung: "stomp" });
      ladder.now += 100;
      ladder.down("stomp");
      if (round === 0) ladder.fire("stomp");
    }
    expect(ladder.open.has("sse")).toBe(true);
  });

  it("opens at once when the page wakes up, and checks what is up", () => {
    const ladder = blocked("stomp");
    ladder.send({ type: "up", rung: "sse" });
    ladder.send({ type: "wake", isOnline: true });
    expect(ladder.commands).toContainEqual({ type: "check", rung: "sse" });
    expect(ladder.open.has("stomp")).toBe(true);
  });

  it("says when there is no network, or no way", () => {
    const ladder = started();
    ladder.down("stomp");
    ladder.send({ type: "wake", isOnline: false });
    expect(ladder.transport).toBe("offline");
    const hopeless = blocked("stomp", "sse", "polling");
    expect(hopeless.transport).toBe("offline");
  });

  it("holds only STOMP open while there is nothing to follow", () => {
    const ladder = started(false);
    ladder.down("stomp");
    ladder.fire("stomp");
    ladder.down("stomp");
    expect(ladder.open.size).toBe(0);
    expect(ladder.waitOf("stomp")).toBe(PROBE_MS);
    ladder.send({ type: "wanted", isWanted: true });
    expect([...ladder.open]).toEqual(["stomp", "sse"]);
  });

  it("closes everything at its stop", () => {
    const ladder = blocked("stomp");
    ladder.send({ type: "stop" });
    expect(ladder.open.size + ladder.due.size).toBe(0);
    expect(ladder.send({ type: "due", rung: "stomp" })).toEqual([]);
  });

  it("always has an attempt that is open or due within 5 s, whatever happens", () => {
    const kinds: readonly End["kind"][] = ["lost", "token", "restart", "again"];
    const ends = fc.record({
      kind: fc.constantFrom(...kinds),
      retryAfterMs: fc.constant(null),
    });
    const events = fc.array(
      fc.record({
        rung: fc.constantFrom(...RUNGS),
        pause: fc.nat(20_000),
        end: ends,
        up: fc.boolean(),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(events, (given) => {
        const ladder = started();
        for (const { rung, pause, end, up } of given) {
          ladder.now += pause;
          if (ladder.due.has(rung)) ladder.fire(rung);
          else if (up) ladder.send({ type: "up", rung });
          else ladder.send({ type: "down", rung, end });
          const isUp = RUNGS.filter((each) => ladder.state.rungs[each].phase === "up");
          expect(isUp.length).toBeLessThanOrEqual(1);
          const isOpen = RUNGS.filter((each) => ladder.state.rungs[each].phase === "opening");
          const soonest = Math.min(...RUNGS.map((each) => ladder.waitOf(each)).filter(isFinite));
          expect(isUp.length + isOpen.length > 0 || soonest < 5_000).toBe(true);
          for (const each of RUNGS) {
            const { phase } = ladder.state.rungs[each];
            expect(ladder.due.has(each)).toBe(phase === "waiting");
            expect(ladder.open.has(each)).toBe(phase === "up" || phase === "opening");
          }
        }
      }),
    );
  });

  it("ignores events of attempts that it has closed", () => {
    const ladder = started();
    ladder.send({ type: "up", rung: "stomp" });
    expect(ladder.send({ type: "up", rung: "polling" })).toEqual([]);
    expect(ladder.send({ type: "down", rung: "sse", end: LOST })).toEqual([]);
  });
});
