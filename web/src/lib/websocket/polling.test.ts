import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeEnvironment } from "../../../tests/live/fakeEnvironment";
import { jobView, jsonResponse } from "../../../tests/live/updates";
import { FollowedJobs } from "./followedJobs";
import { pollingTransport } from "./polling";
import type { Attempt, End, Feed } from "./transport";
import type { ProgressUpdate } from "./types";

let environment: FakeEnvironment;
let jobs: FollowedJobs;
let log: string[];
let ends: End[];
let poller: Attempt;

const feed: Feed = {
  onUp: () => log.push("up"),
  onDown: (end) => ends.push(end),
  onSnapshot: (jobId: string, updates: readonly ProgressUpdate[], cursor) => {
    jobs.takeSnapshot(jobId, updates, cursor);
    log.push(`${jobId} ${String(updates.at(-1)?.status)} ${String(cursor)}`);
  },
  onChange: () => log.push("change"),
  onGone: (jobId) => {
    jobs.remove(jobId);
    log.push(`gone ${jobId}`);
  },
};

function poll(): void {
  const token = () => Promise.resolve("t");
  const context = { baseUrl: "http://gateway", environment, token };
  poller = pollingTransport(context)(jobs, feed);
}

beforeEach(() => {
  environment = new FakeEnvironment();
  jobs = new FollowedJobs();
  log = [];
  ends = [];
});
afterEach(async () => {
  poller.stop();
  await environment.advance(500); // an answer that is under way
  expect(environment.timers).toBe(0);
});

describe("polling", () => {
  it("asks every 1.5 s with the tag of the last answer", async () => {
    jobs.add("j1");
    environment.respond = (_, headers) =>
      Promise.resolve(
        headers.get("if-none-match") === 'W/"1"'
          ? new Response(null, { status: 304 })
          : jsonResponse(jobView(), 200, { etag: 'W/"1"' }),
      );
    poll();
    await environment.advance(3_100);
    expect(environment.requests.map((each) => each.at)).toEqual([0, 1_500, 3_000]);
    expect(environment.requests[0]?.url).toBe("http://gateway/queries/upload-jobs/j1");
    expect(environment.requests[0]?.headers.get("authorization")).toBe("Bearer t");
    expect(log).toEqual(["j1 IN_PROGRESS null", "up"].reverse());
  });

  it("sends one request at a time", async () => {
    for (const id of ["j1", "j2", "j3"]) jobs.add(id);
    let underWay = 0;
    environment.respond = async (url) => {
      underWay += 1;
      expect(underWay).toBe(1);
      await new Promise<void>((resolve) => environment.setTimer(resolve, 400));
      underWay -= 1;
      return jsonResponse(jobView(url.slice(-2)));
    };
    poll();
    await environment.advance(10_000);
    expect(environment.requests.length).toBeGreaterThan(9);
  });

  it("leaves jobs alone that have ended, until they are followed again", async () => {
    jobs.add("j1");
    environment.respond = () =>
      Promise.resolve(jsonResponse(jobView("j1", "COMPLETED", "COMPLETED"), 200, { etag: '"1"' }));
    poll();
    await environment.advance(10_000);
    expect(environment.requests).toHaveLength(1);
    jobs.add("j1");
    poller.follow("j1");
    await environment.advance(10);
    expect(environment.requests).toHaveLength(2);
  });

  it("is slow while the page is hidden, and at once when it wakes up", async () => {
    jobs.add("j1");
    environment.isPageHidden = true;
    environment.respond = () => Promise.resolve(jsonResponse(jobView()));
    poll();
    await environment.advance(9_900);
    expect(environment.requests).toHaveLength(1);
    environment.isPageHidden = false;
    poller.wake();
    await environment.advance(10);
    expect(environment.requests).toHaveLength(2);
  });

  it("waits as long as the server asks", async () => {
    jobs.add("j1");
    environment.respond = () => {
      const isFirst = environment.requests.length === 1;
      return Promise.resolve(
        isFirst
          ? jsonResponse({ reason: "RATE_LIMITED" }, 429, { "retry-after": "7" })
          : jsonResponse(jobView()),
      );
    };
    poll();
    await environment.advance(6_900);
    expect(environment.requests).toHaveLength(1);
    expect(log).toEqual([]);
    await environment.advance(200);
    expect(log[0]).toBe("up");
  });

  it("is down after three answers that say not now", async () => {
    jobs.add("j1");
    environment.respond = () => Promise.resolve(jsonResponse({ reason: "X" }, 503));
    poll();
    await environment.advance(20_000);
    expect(environment.requests).toHaveLength(3);
    expect(ends).toEqual([{ kind: "lost", retryAfterMs: 1_500 }]);
  });

  it("tells jobs that are gone, and goes on with the others", async () => {
    jobs.add("j1");
    jobs.add("j2");
    environment.respond = (url) =>
      Promise.resolve(
        url.endsWith("j1")
          ? jsonResponse({ reason: "JOB_NOT_FOUND" }, 404)
          : jsonResponse(jobView("j2")),
      );
    poll();
    await environment.advance(100);
    expect(log).toEqual(["up", "gone j1", "j2 IN_PROGRESS null"]);
  });

  it("takes a 404 of a proxy for no end of the job", async () => {
    jobs.add("j1");
    environment.respond = () => Promise.resolve(new Response("<h1>404</h1>", { status: 404 }));
    poll();
    await environment.advance(10_000);
    expect(log).toEqual([]);
    expect(ends).toHaveLength(1);
  });

  it("ends with the network, a token that is refused, and without an answer", async () => {
    jobs.add("j1");
    poll();
    await environment.advance(10);
    expect(ends.at(-1)?.kind).toBe("lost");
    environment.respond = () => Promise.resolve(jsonResponse({ reason: "TOKEN_EXPIRED" }, 401));
    poll();
    await environment.advance(10);
    expect(ends.at(-1)?.kind).toBe("token");
    environment.respond = (): Promise<Response> =>
      new Promise((_, reject) => {
        environment.requests.at(-1)?.signal?.addEventListener("abort", () => {
          reject(new DOMException("aborted", "AbortError"));
        });
      });
    poll();
    await environment.advance(10_100);
    expect(ends).toHaveLength(3);
  });
});
