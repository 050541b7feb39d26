import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { update } from "../../../tests/live/updates";
import { backoffMs, restartMs } from "./backoff";
import { FollowedJobs } from "./followedJobs";
import { renewalDelayMs } from "./tokenRenewal";

function following(): FollowedJobs {
  const jobs = new FollowedJobs();
  jobs.add("j1");
  return jobs;
}

describe("followed jobs", () => {
  it("drop what is older than what was seen", () => {
    const jobs = following();
    jobs.takeSnapshot("j1", [update({ sequence: 0 })], 20);
    expect(jobs.takeChange(update({ sequence: 20 }))).toBe(false);
    expect(jobs.takeChange(update({ sequence: 22 }))).toBe(true);
    expect(jobs.takeChange(update({ sequence: 21 }))).toBe(false);
    expect(jobs.takeChange(update({ sequence: 21, photoId: "p2" }))).toBe(true);
    expect(jobs.cursor("j1")).toBe(22);
  });

  it("show each photo's newest state, in whatever order changes come", () => {
    const changes = fc.array(
      fc.record({ photoId: fc.constantFrom("p1", "p2", null), sequence: fc.nat(1_000) }),
    );
    fc.assert(
      fc.property(changes, (given) => {
        const jobs = following();
        jobs.takeSnapshot("j1", [], 1);
        const shown = new Map<string | null, number>();
        for (const { photoId, sequence } of given) {
          const status = photoId === null ? "IN_PROGRESS" : "UPLOADING";
          if (!jobs.takeChange(update({ photoId, sequence, status }))) continue;
          expect(sequence).toBeGreaterThan(shown.get(photoId) ?? -1);
          shown.set(photoId, sequence);
        }
        for (const [photoId, sequence] of shown) {
          const all = given.filter((each) => each.photoId === photoId);
          expect(sequence).toBe(Math.max(...all.map((each) => each.sequence)));
        }
        expect(jobs.cursor("j1")).toBe(Math.max(1, ...shown.values()));
      }),
    );
  });

  it("begin with a snapshot after polling, whose states have no sequence", () => {
    const jobs = following();
    jobs.takeSnapshot("j1", [], 20);
    jobs.takeSnapshot("j1", [update({ sequence: 0 })], null);
    expect(jobs.cursor("j1")).toBeNull();
    expect(jobs.takeChange(update({ sequence: 21 }))).toBe(true);
    expect(jobs.cursor("j1")).toBeNull();
  });

  it("ignore jobs that nobody follows", () => {
    const jobs = following();
    expect(jobs.takeChange(update({ jobId: "j2" }))).toBe(false);
    expect(jobs.takeSnapshot("j2", [], 1)).toBe(false);
    expect(jobs.remove("j1")).toBe(true);
    expect(jobs.remove("j1")).toBe(false);
    expect(jobs.takeChange(update())).toBe(false);
  });

  it("know the end of a job, until it is followed again", () => {
    const jobs = following();
    jobs.takeSnapshot("j1", [], 1);
    jobs.takeChange(update({ photoId: null, status: "COMPLETED_WITH_ERRORS" }));
    expect(jobs.hasEnded("j1")).toBe(true);
    expect(jobs.add("j1")).toBe(false);
    expect(jobs.hasEnded("j1")).toBe(false);
  });
});

describe("delays", () => {
  it("grow, and stay so short that a client is back in 5 s", () => {
    fc.assert(
      fc.property(
        fc.nat(1_000),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, random) => {
          const ms = backoffMs(failures, random);
          expect(ms).toBeGreaterThanOrEqual(125);
          expect(ms).toBeLessThanOrEqual(2_000);
        },
      ),
    );
    expect([0, 1, 2, 3, 9].map((failures) => backoffMs(failures, 0))).toEqual([
      125, 250, 500, 1_000, 1_000,
    ]);
  });

  it("of a restart are spread over 4 s as the server spreads them over 10", () => {
    expect([0, 2_500, 5_000, 10_000, 60_000].map(restartMs)).toEqual([
      0, 1_000, 2_000, 4_000, 4_000,
    ]);
  });

  it("of a token leave time to connect, and a second at least", () => {
    expect([60, 40, 10, 0].map(renewalDelayMs)).toEqual([30_000, 10_000, 1_000, 1_000]);
  });
});
