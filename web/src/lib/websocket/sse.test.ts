import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeEnvironment, fakeStream, settle } from "../../../tests/live/fakeEnvironment";
import { jobView, jsonResponse, update } from "../../../tests/live/updates";
import { FollowedJobs } from "./followedJobs";
import { sseTransport } from "./sse";
import type { Attempt, End, Feed } from "./transport";
import type { ProgressUpdate } from "./types";

let environment: FakeEnvironment;
let jobs: FollowedJobs;
let log: string[];
let ends: End[];
let attempt: Attempt;
let streams: Map<string, ReturnType<typeof fakeStream>>;

const feed: Feed = {
  onUp: () => log.push("up"),
  onDown: (end) => ends.push(end),
  onSnapshot: (jobId: string, updates: readonly ProgressUpdate[], cursor) => {
    jobs.takeSnapshot(jobId, updates, cursor);
    log.push(`snapshot ${jobId} ${updates.length} ${String(cursor)}`);
  },
  onChange: (change) => {
    if (jobs.takeChange(change)) log.push(`change ${change.jobId} ${change.sequence}`);
  },
  onGone: (jobId) => log.push(`gone ${jobId}`),
};

function open(...ids: string[]): void {
  for (const id of ids) jobs.add(id);
  const context = { baseUrl: "http://gateway", environment, token: () => Promise.resolve("t") };
  attempt = sseTransport(context)(jobs, feed);
}

const event = (type: string, data: unknown, id = ""): string =>
  `${id === "" ? "" : `id: ${id}\n`}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;

/** Give the reader its turns: streams settle later than promises. */
async function drain(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    await settle();
  }
}

async function send(jobId: string, text: string): Promise<void> {
  await drain(); // its request comes after the token
  streams.get(jobId)?.push(text);
  await drain();
}

beforeEach(() => {
  environment = new FakeEnvironment();
  jobs = new FollowedJobs();
  log = [];
  ends = [];
  streams = new Map();
  environment.respond = (url) => {
    const jobId = /upload-jobs\/([^/]+)(\/events)?$/.exec(url);
    const id = jobId?.[1] ?? "";
    if (jobId?.[2] === undefined) return Promise.resolve(jsonResponse(jobView(id)));
    const stream = fakeStream();
    streams.set(id, stream);
    return Promise.resolve(stream.response);
  };
});
afterEach(() => {
  attempt.stop();
  expect(environment.timers).toBe(0);
});

describe("server-sent events", () => {
  it("delivers a snapshot in pieces as one, then changes", async () => {
    open("j1");
    await send("j1", "retry: 2000\n\n");
    expect(log).toEqual(["up"]);
    await send("j1", event("snapshot", { complete: false, updates: [update({ sequence: 0 })] }));
    expect(log).toEqual(["up"]);
    const job = update({ photoId: null, status: "IN_PROGRESS", sequence: 20 });
    await send("j1", event("snapshot", { complete: true, updates: [job] }, "20"));
    await send("j1", event("change", update({ sequence: 21 }), "21"));
    expect(log).toEqual(["up", "snapshot j1 2 20", "change j1 21"]);
  });

  it("sends the token, and resumes after what it has seen", async () => {
    jobs.add("j1");
    jobs.takeSnapshot("j1", [], 77);
    open("j1");
    await drain();
    const headers = environment.requests[0]?.headers;
    expect(headers?.get("last-event-id")).toBe("77");
    expect(headers?.get("authorization")).toBe("Bearer t");
  });

  it("comes back when a replica asks for it, else as after a break", async () => {
    open("j1");
    await send("j1", "retry: 2000\n\n");
    await send("j1", "retry: 8000\n\n");
    streams.get("j1")?.end();
    await drain();
    open("j1");
    await send("j1", "retry: 2000\n\n");
    streams.get("j1")?.fail();
    await drain();
    expect(ends).toEqual([
      { kind: "restart", retryAfterMs: 8_000 },
      { kind: "lost", retryAfterMs: null },
    ]);
  });

  it("takes silence for the end: at once in the beginning, later after two comments", async () => {
    open("j1");
    await environment.advance(6_100);
    expect(ends).toHaveLength(1);
    open("j1");
    await send("j1", "retry: 2000\n\n");
    for (let comment = 0; comment < 4; comment += 1) {
      await environment.advance(15_000);
      await send("j1", ":\n\n");
    }
    expect(ends).toHaveLength(1);
    await environment.advance(38_000);
    expect(ends).toHaveLength(2);
  });

  it("finds out on waking whether the stream has gone stale", async () => {
    open("j1");
    await send("j1", "retry: 2000\n\n");
    await environment.advance(10_000);
    attempt.wake();
    expect(ends).toHaveLength(0);
    await environment.advance(8_000);
    attempt.wake();
    expect(ends).toHaveLength(1);
  });

  it("keeps two streams at once and polls the rest; an ended job gives its stream away", async () => {
    open("j1", "j2", "j3");
    await drain();
    expect([...streams.keys()]).toEqual(["j1", "j2"]);
    expect(log).toContain("snapshot j3 2 null");
    await send("j1", "retry: 2000\n\n");
    const job = update({ photoId: null, status: "COMPLETED", sequence: 20 });
    await send("j1", event("snapshot", { complete: true, updates: [job] }, "20"));
    expect([...streams.keys()]).toEqual(["j1", "j2", "j3"]);
    expect(environment.requests[0]?.signal?.aborted).toBe(true);
    const asked = environment.requests.length;
    await environment.advance(3_000);
    expect(environment.requests).toHaveLength(asked);
  });

  it("follows and leaves jobs while it runs", async () => {
    open("j1");
    await drain();
    jobs.add("j2");
    attempt.follow("j2");
    await drain();
    expect([...streams.keys()]).toEqual(["j1", "j2"]);
    jobs.remove("j1");
    attempt.unfollow("j1");
    await drain();
    expect(environment.requests[0]?.signal?.aborted).toBe(true);
    expect(ends).toHaveLength(0);
  });

  it.each([
    [401, { reason: "TOKEN_EXPIRED" }, "token"],
    [403, { reason: "ORIGIN_NOT_ALLOWED" }, "refused"],
    [503, { reason: "REDIS_UNAVAILABLE" }, "lost"],
    [200, { page: "of a proxy" }, "refused"],
  ])("tells what an answer with %i means", async (status, body, kind) => {
    environment.respond = () => Promise.resolve(jsonResponse(body, status));
    open("j1");
    await drain();
    expect(ends.map((each) => each.kind)).toEqual([kind]);
  });

  it("gets another token before the old one ends, but not at once", async () => {
    open("j1");
    await send("j1", "retry: 2000\n\n");
    await send("j1", event("session", { type: "TOKEN_EXPIRES", secondsLeft: 60 }));
    await environment.advance(29_000);
    expect(ends).toHaveLength(0);
    await environment.advance(2_000);
    expect(ends).toEqual([{ kind: "token", retryAfterMs: null }]);
  });

  it("tells jobs that are gone", async () => {
    environment.respond = () => Promise.resolve(jsonResponse({ reason: "JOB_NOT_FOUND" }, 404));
    open("j1");
    await drain();
    expect(log).toEqual(["gone j1"]);
    expect(ends).toHaveLength(0);
  });
});
