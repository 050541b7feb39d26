import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeEnvironment, type FakeSocket } from "../../../tests/live/fakeEnvironment";
import { jobView, jsonResponse, update } from "../../../tests/live/updates";
import { FollowedJobs } from "./followedJobs";
import { endOfClose, socketUrl, stompTransport } from "./stomp";
import type { Attempt, End, Feed } from "./transport";
import type { ProgressUpdate } from "./types";

let environment: FakeEnvironment;
let jobs: FollowedJobs;
let log: string[];
let ends: End[];
let attempt: Attempt;

const feed: Feed = {
  onUp: () => log.push("up"),
  onDown: (end) => ends.push(end),
  onSnapshot: (jobId: string, updates: readonly ProgressUpdate[], cursor) => {
    jobs.takeSnapshot(jobId, updates, cursor);
    log.push(`snapshot ${jobId} ${updates.length} ${String(cursor)}`);
  },
  onChange: (change) => log.push(`change ${change.jobId} ${change.sequence}`),
  onGone: (jobId) => {
    jobs.remove(jobId);
    log.push(`gone ${jobId}`);
  },
};

async function connect(...ids: string[]): Promise<FakeSocket> {
  for (const id of ids) jobs.add(id);
  const context = { baseUrl: "http://gateway", environment, token: () => Promise.resolve("t") };
  attempt = stompTransport(context)(jobs, feed);
  await environment.advance(10);
  const socket = environment.sockets.at(-1);
  if (socket === undefined) throw new Error("no socket was opened");
  return socket;
}

beforeEach(() => {
  environment = new FakeEnvironment();
  environment.acceptSockets();
  jobs = new FollowedJobs();
  log = [];
  ends = [];
});
afterEach(() => {
  attempt.stop();
  expect(environment.timers).toBe(0);
});

describe("STOMP", () => {
  it("sends the token in CONNECT and subscribes to each job and to notices", async () => {
    const socket = await connect("j1", "j2");
    expect([socket.url, socket.protocol]).toEqual(["ws://gateway/ws", "v12.stomp"]);
    expect(socket.sent[0]?.headers).toMatchObject({
      Authorization: "Bearer t",
      "accept-version": "1.2",
      "heart-beat": "0,10000",
    });
    expect(log).toEqual(["up"]);
    expect(socket.destinations).toEqual(["/user/queue/session", "/topic/job/j1", "/topic/job/j2"]);
  });

  it("sends no Authorization without keys", async () => {
    const context = { baseUrl: "", environment, token: () => Promise.resolve(null) };
    attempt = stompTransport(context)(jobs, feed);
    await environment.advance(10);
    expect(environment.sockets[0]?.sent[0]?.headers["Authorization"]).toBeUndefined();
  });

  it("collects a snapshot, then passes changes on", async () => {
    const socket = await connect("j1");
    socket.message("/topic/job/j1", "snapshot", update({ sequence: 0 }));
    socket.message("/topic/job/j1", "snapshot", update({ photoId: "p2", sequence: 0 }));
    expect(log).toEqual(["up"]);
    const job = update({ photoId: null, status: "IN_PROGRESS", sequence: 20 });
    socket.message("/topic/job/j1", "snapshot", job);
    socket.message("/topic/job/j1", "change", update({ sequence: 21 }));
    expect(log).toEqual(["up", "snapshot j1 3 20", "change j1 21"]);
  });

  it("ends a snapshot with the job when nothing has a sequence yet", async () => {
    const socket = await connect("j1");
    socket.message("/topic/job/j1", "snapshot", update({ sequence: 0 }));
    const job = update({ photoId: null, status: "QUEUED", sequence: 0 });
    socket.message("/topic/job/j1", "snapshot", job);
    expect(log).toEqual(["up", "snapshot j1 2 null"]);
  });

  it("resumes after what was seen", async () => {
    jobs.add("j1");
    jobs.takeSnapshot("j1", [], 77);
    const socket = await connect("j1", "j2");
    const [, first, second] = socket.sent.filter((each) => each.command === "SUBSCRIBE");
    expect(first?.headers["after"]).toBe("77");
    expect(second?.headers["after"]).toBeUndefined();
  });

  it("drops messages that are none", async () => {
    const socket = await connect("j1");
    socket.message("/topic/job/j1", "change", { jobId: "j1" });
    socket.message("/topic/job/j1", "change", "text");
    expect(log).toEqual(["up"]);
  });

  it("follows and leaves jobs on the same connection", async () => {
    const socket = await connect("j1");
    jobs.add("j2");
    attempt.follow("j2");
    attempt.unfollow("j1");
    expect(socket.destinations.at(-1)).toBe("/topic/job/j2");
    const left = socket.sent.find((each) => each.command === "UNSUBSCRIBE");
    expect(left?.headers["id"]).toBe(socket.subscriptionOf("/topic/job/j1"));
    expect(environment.sockets).toHaveLength(1);
  });

  it("leaves out a job that ended the session, and comes back at once", async () => {
    environment.onSocket = (socket) => {
      socket.answer = (frame) => {
        const isUnknown = frame.headers["destination"] === "/topic/job/j2";
        if (!isUnknown) {
          socket.answerAsServer(frame);
          return;
        }
        const receipt = frame.headers["receipt"] ?? "";
        socket.frame("ERROR", { message: "JOB_NOT_FOUND", "receipt-id": receipt });
        environment.setTimer(() => {
          socket.shut(1008, "JOB_NOT_FOUND");
        }, 1);
      };
      environment.setTimer(() => {
        socket.open();
      }, 1);
    };
    await connect("j1", "j2");
    expect(log).toEqual(["up", "gone j2"]);
    expect(ends).toEqual([{ kind: "again", retryAfterMs: null }]);
  });

  it("takes one subscription for more jobs than a session has", async () => {
    environment.respond = (url) => Promise.resolve(jsonResponse(jobView(url.slice(-3))));
    const ids = Array.from({ length: 60 }, (_, index) => `j${String(index + 10)}`);
    const socket = await connect(...ids);
    expect(socket.destinations).toEqual(["/user/queue/session", "/user/queue/progress"]);
    for (const id of ids) {
      await environment.advance(0);
      expect(log).toContain(`snapshot ${id} 2 null`);
    }
    expect(log.filter((line) => line.startsWith("snapshot"))).toHaveLength(60);
    socket.message("/user/queue/progress", "change", update({ jobId: "j10", sequence: 5 }));
    expect(log.at(-1)).toBe("change j10 5");
    jobs.add("j99");
    attempt.follow("j99");
    await environment.advance(10);
    expect(log.at(-1)).toBe("snapshot j99 2 null");
  });

  it("comes back with that subscription when there are too many", async () => {
    const ids = Array.from({ length: 48 }, (_, index) => `j${String(index)}`);
    await connect(...ids);
    jobs.add("one more");
    attempt.follow("one more");
    expect(ends).toEqual([{ kind: "again", retryAfterMs: null }]);
  });

  it("gives up an attempt that does not connect in 2.5 s", async () => {
    environment.onSocket = () => undefined;
    await connect("j1");
    await environment.advance(2_400);
    expect(ends).toHaveLength(0);
    await environment.advance(200);
    expect(ends).toHaveLength(1);
  });

  it("takes missing heart-beats for the end", async () => {
    const socket = await connect("j1");
    for (let beat = 0; beat < 5; beat += 1) {
      await environment.advance(10_000);
      socket.receive("\n");
    }
    expect(ends).toHaveLength(0);
    await environment.advance(16_000);
    expect(ends).toHaveLength(1);
  });

  it("asks for an answer when the page wakes up", async () => {
    const socket = await connect("j1");
    attempt.wake();
    await environment.advance(2_600);
    expect(ends).toHaveLength(0);
    const sessions = socket.destinations.filter((each) => each === "/user/queue/session");
    expect(sessions).toHaveLength(2);
    expect(socket.sent.at(-1)?.command).toBe("UNSUBSCRIBE");

    socket.answer = () => undefined; // the network has gone
    await environment.advance(100);
    attempt.wake();
    await environment.advance(2_600);
    expect(ends).toHaveLength(1);
  });

  it("gets another token before the old one ends", async () => {
    const socket = await connect("j1");
    const notice = { type: "TOKEN_EXPIRES", secondsLeft: 60 };
    socket.message("/user/queue/session", "", notice);
    for (let beat = 0; beat < 3; beat += 1) {
      await environment.advance(9_000);
      socket.receive("\n");
    }
    expect(ends).toHaveLength(0);
    await environment.advance(4_000);
    expect(ends).toEqual([{ kind: "token", retryAfterMs: null }]);
  });

  it("says nothing after its stop", async () => {
    const socket = await connect("j1");
    attempt.stop();
    socket.message("/topic/job/j1", "change", update());
    socket.shut(1006);
    await environment.advance(60_000);
    expect([log, ends]).toEqual([["up"], []]);
  });
});

describe("close codes", () => {
  it.each([
    [1000, "DISCONNECTED", null, "lost", null],
    [1001, "", null, "lost", null],
    [1006, "", null, "lost", null],
    [1002, "BAD_FRAME", "BAD_FRAME", "refused", null],
    [1009, "FRAME_TOO_LARGE", "FRAME_TOO_LARGE", "refused", null],
    [1008, "NOT_GRANTED", "NOT_GRANTED", "refused", null],
    [1008, "BAD_TOKEN", "BAD_TOKEN", "token", null],
    [1008, "NO_CREDENTIALS", null, "token", null],
    [1012, "RESTART retry-after-ms=5000", null, "restart", 5000],
    [1013, "HEART_BEAT_MISSED", null, "lost", null],
    [1013, "REDIS_UNAVAILABLE retry-after-ms=1500", "REDIS_UNAVAILABLE", "lost", 1500],
    [1013, "TOO_MANY_SESSIONS_OF_USER", "TOO_MANY_SESSIONS_OF_USER", "lost", null],
    [4001, "discarded", null, "lost", null],
    [4401, "TOKEN_EXPIRED", "TOKEN_EXPIRED", "token", null],
  ])("%i %s", (code, reason, error, kind, retryAfterMs) => {
    expect(endOfClose(code, reason, error)).toEqual({ kind, retryAfterMs });
  });

  it("belong to the WebSocket of the base URL", () => {
    expect(socketUrl("https://photos.example")).toBe("wss://photos.example/ws");
    expect(socketUrl("http://127.0.0.1:8080")).toBe("ws://127.0.0.1:8080/ws");
  });
});
