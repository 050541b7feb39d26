import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeEnvironment, type FakeSocket } from "../../../tests/live/fakeEnvironment";
import { RecordingListener, jobView, jsonResponse, update } from "../../../tests/live/updates";
import { createLiveUpdates } from "./client";
import type { LiveUpdates } from "./types";
import { SessionEnded } from "@/lib/api/session";

const BACK_MS = 5_000;

let environment: FakeEnvironment;
let listener: RecordingListener;
let live: LiveUpdates;
let renewals: boolean[];

function start(token = (): Promise<string | null> => Promise.resolve("t")): void {
  live = createLiveUpdates(
    {
      baseUrl: "http://gateway/",
      listener,
      token: (options) => {
        renewals.push(options?.renew === true);
        return token();
      },
    },
    environment,
  );
}

function socket(): FakeSocket {
  const last = environment.sockets.at(-1);
  if (last === undefined) throw new Error("no socket was opened");
  return last;
}

/** Answer polls and refuse streams, as a proxy without them does. */
function answerPolls(): void {
  environment.respond = (url) =>
    Promise.resolve(
      url.endsWith("/events")
        ? jsonResponse({ reason: "FORBIDDEN" }, 403)
        : jsonResponse(jobView(), 200, { etag: '"1"' }),
    );
}

function refuseSockets(): void {
  environment.onSocket = (each) => {
    environment.setTimer(() => {
      each.shut(1006);
    }, 1);
  };
}

beforeEach(() => {
  environment = new FakeEnvironment();
  listener = new RecordingListener();
  renewals = [];
});
afterEach(async () => {
  live.stop();
  await environment.advance(100);
  expect(environment.timers).toBe(0);
  expect(environment.wakers).toBe(0);
});

describe("live updates", () => {
  it("connect by STOMP and deliver what comes", async () => {
    environment.acceptSockets();
    start();
    await environment.advance(10);
    live.follow("j1");
    const job = update({ photoId: null, status: "QUEUED", sequence: 20 });
    socket().message("/topic/job/j1", "snapshot", job);
    socket().message("/topic/job/j1", "change", update({ sequence: 22 }));
    socket().message("/topic/job/j1", "change", update({ sequence: 21 }));
    expect(listener.transports).toEqual(["connecting", "stomp"]);
    expect(listener.snapshots).toEqual([{ jobId: "j1", updates: [job], complete: true }]);
    expect(listener.changes.map((each) => each.sequence)).toEqual([22]);
  });

  it("are back within 5 s and resume, without a word about short breaks", async () => {
    environment.acceptSockets();
    start();
    live.follow("j1");
    await environment.advance(10);
    const job = update({ photoId: null, status: "QUEUED", sequence: 20 });
    socket().message("/topic/job/j1", "snapshot", job);
    await environment.advance(5_000);
    socket().receive("\n");
    const before = environment.sockets.length;
    socket().shut(1006);
    await environment.advance(BACK_MS);
    expect(environment.sockets).toHaveLength(before + 1);
    const resumed = socket().sent.find((each) => each.headers["destination"] === "/topic/job/j1");
    expect(resumed?.headers["after"]).toBe("20");
    expect(listener.transports).toEqual(["connecting", "stomp"]);
  });

  it("are back within 5 s after a server that was away for a minute", async () => {
    environment.acceptSockets();
    start();
    live.follow("j1");
    await environment.advance(10_000);
    socket().receive("\n");
    refuseSockets();
    socket().shut(1006);
    await environment.advance(60_000);
    expect(listener.transports.at(-1)).toBe("offline");
    environment.acceptSockets();
    await environment.advance(BACK_MS);
    expect(listener.transports.at(-1)).toBe("stomp");
  });

  it("poll where nothing better works, and go back to STOMP when it does", async () => {
    answerPolls();
    start();
    live.follow("j1");
    await environment.advance(BACK_MS);
    expect(listener.transports).toEqual(["connecting", "polling"]);
    expect(listener.snapshots.at(-1)?.updates.at(-1)?.status).toBe("IN_PROGRESS");
    environment.acceptSockets();
    await environment.advance(34_000);
    expect(listener.transports.at(-1)).toBe("stomp");
    const polled = environment.requests.length;
    await environment.advance(9_000);
    expect(environment.requests).toHaveLength(polled);
    // The states of polling have no sequence, so the stream begins with a snapshot.
    const first = socket().sent.find((each) => each.headers["destination"] === "/topic/job/j1");
    expect(first?.headers["after"]).toBeUndefined();
  });

  it("poll while WebSockets hang, within about 5 s", async () => {
    answerPolls();
    environment.onSocket = () => undefined;
    start();
    live.follow("j1");
    await environment.advance(6_000);
    expect(listener.transports.at(-1)).toBe("polling");
  });

  it("renew a token that is refused, once for all", async () => {
    let isRefused = true;
    environment.onSocket = (each) => {
      each.answer = (frame) => {
        if (frame.command !== "CONNECT" || !isRefused) {
          each.answerAsServer(frame);
          return;
        }
        isRefused = false;
        each.frame("ERROR", { message: "TOKEN_EXPIRED" });
        environment.setTimer(() => {
          each.shut(4401, "TOKEN_EXPIRED");
        }, 1);
      };
      environment.setTimer(() => {
        each.open();
      }, 1);
    };
    start();
    live.follow("j1");
    await environment.advance(100);
    expect(renewals).toEqual([false, true]);
    expect(listener.transports).toEqual(["connecting", "stomp"]);
  });

  it("stop by themselves when the session has ended", async () => {
    start(() => Promise.reject(new SessionEnded("log in again")));
    live.follow("j1");
    await environment.advance(60_000);
    expect(renewals).toHaveLength(1);
    expect(listener.transports).toEqual(["connecting", "offline"]);
  });

  it("try again when a token could not be had", async () => {
    let failures = 2;
    environment.acceptSockets();
    start(() => {
      failures -= 1;
      return failures >= 0 ? Promise.reject(new TypeError("no network")) : Promise.resolve("t");
    });
    live.follow("j1");
    await environment.advance(BACK_MS);
    expect(listener.transports.at(-1)).toBe("stomp");
  });

  it("try again when a token does not come", async () => {
    let hangs = true;
    environment.acceptSockets();
    start(() => (hangs ? new Promise<string>(() => undefined) : Promise.resolve("t")));
    live.follow("j1");
    await environment.advance(5_000);
    hangs = false;
    await environment.advance(10_000);
    expect(listener.transports.at(-1)).toBe("stomp");
  });

  it("tell jobs that are gone once, and follow them no more", async () => {
    environment.respond = () => Promise.resolve(jsonResponse({ reason: "JOB_NOT_FOUND" }, 404));
    start();
    live.follow("j1");
    await environment.advance(30_000);
    expect(listener.gone).toEqual(["j1"]);
  });

  it("try at once when the page wakes up", async () => {
    start();
    live.follow("j1");
    await environment.advance(20_000);
    environment.acceptSockets();
    environment.wake();
    await environment.advance(5);
    expect(listener.transports.at(-1)).toBe("stomp");
  });

  it("say that they are offline", async () => {
    environment.isNetworkUp = false;
    start();
    live.follow("j1");
    await environment.advance(10);
    expect(listener.transports).toEqual(["offline"]);
  });

  it("deliver nothing of jobs that are not followed any more", async () => {
    environment.acceptSockets();
    start();
    live.follow("j1");
    await environment.advance(10);
    const old = socket();
    live.unfollow("j1");
    old.message("/topic/job/j1", "change", update());
    live.stop();
    live.follow("j2");
    await environment.advance(60_000);
    expect(listener.changes).toEqual([]);
    expect(environment.sockets).toHaveLength(1);
  });
});
