import { describe, expect, it } from "vitest";
import { createLiveRelay } from "./relay";
import type { LiveUpdates } from "./types";

class Connection implements LiveUpdates {
  readonly calls: string[] = [];
  follow(jobId: string): void {
    this.calls.push(`follow ${jobId}`);
  }
  unfollow(jobId: string): void {
    this.calls.push(`unfollow ${jobId}`);
  }
  wake(): void {
    this.calls.push("wake");
  }
  stop(): void {
    this.calls.push("stop");
  }
}

describe("relay", () => {
  it("has each connection follow what is followed at the time", () => {
    const relay = createLiveRelay();
    relay.wake();
    relay.follow("j1");
    const [first, second] = [new Connection(), new Connection()];
    const disconnect = relay.connect(() => first);
    relay.follow("j2");
    relay.unfollow("j1");
    relay.wake();
    disconnect();
    relay.follow("j3");
    relay.connect(() => second);
    expect(first.calls).toEqual(["follow j1", "follow j2", "unfollow j1", "wake", "stop"]);
    expect(second.calls).toEqual(["follow j2", "follow j3"]);
  });

  it("ends a connection once, and not the next one with it", () => {
    const relay = createLiveRelay();
    const [first, second] = [new Connection(), new Connection()];
    const disconnect = relay.connect(() => first);
    relay.connect(() => second);
    disconnect();
    expect(first.calls).toEqual(["stop"]);
    expect(second.calls).toEqual([]);
    relay.stop();
    expect(second.calls).toEqual(["stop"]);
  });
});
