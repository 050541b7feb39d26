// @vitest-environment node
import { afterEach, describe, expect, test, vi } from "vitest";
import { type Bench, benchOf, fileOf, tabOf } from "../../../tests/engineBench";
import { FakeGateway, problem } from "../../../tests/fakeGateway";
import { openResumeStore } from "@/lib/resume/store";
import type { UploadPhase } from "@/stores/uploadTypes";

const started: Bench[] = [];

function start(...given: Parameters<typeof benchOf>): Bench {
  const bench = benchOf(...given);
  started.push(bench);
  return bench;
}

afterEach(() => {
  for (const bench of started.splice(0)) bench.engine.stop();
});

/** PUTs wait until they are aborted or `onPut` is null again. */
function hold(gateway: FakeGateway): void {
  gateway.onPut = ({ signal }) =>
    new Promise<void>((resolve) => {
      const timer = setInterval(() => {
        if (signal.aborted || gateway.onPut === null) {
          clearInterval(timer);
          resolve();
        }
      }, 2);
    });
}

const settled = (check: () => void) => vi.waitFor(check, { timeout: 3000, interval: 5 });

describe("pause and resume", () => {
  test("of all: what is sent stops, what is added waits, and all goes on", async () => {
    const { gateway, engine, add, until, items } = start();
    hold(gateway);
    add(fileOf("a.jpg"), fileOf("b.jpg", 95));
    await until("sending");
    engine.pauseAll();
    expect(items().map((item) => item.phase)).toEqual(["paused", "paused"]);
    add(fileOf("c.jpg"));
    await settled(() => {
      expect(gateway.putsNow).toBe(0);
    });
    expect(engine.store.getState()).toMatchObject({ isPaused: true, summary: { paused: 3 } });
    gateway.onPut = null;
    engine.resumeAll();
    await until("completed");
    expect(engine.store.getState().isPaused).toBe(false);
  });

  test("of one: the others go on, and no part is sent twice", async () => {
    const { gateway, engine, add, until, id, item } = start();
    let parts = 0;
    gateway.onPut = (options) => {
      if (!options.url.includes("part=")) return;
      parts += 1;
      if (parts === 4) engine.pause(id("b.jpg"));
    };
    add(fileOf("b.jpg", 95), fileOf("a.jpg"));
    await until("completed", "paused");
    expect(item("b.jpg").phase).toBe("paused");
    await settled(() => {
      expect(gateway.putsNow).toBe(0);
    });
    const before = gateway.sentParts.length;
    engine.resume(id("b.jpg"));
    await until("completed");
    expect(before).toBeGreaterThan(0);
    expect(new Set(gateway.sentParts).size).toBe(gateway.sentParts.length);
    expect(gateway.sentParts.length).toBe(10);
  });
});

describe("cancel", () => {
  test("of one under way: the gateway hears of it", async () => {
    const { gateway, engine, add, until, id, item } = start();
    hold(gateway);
    add(fileOf("a.jpg"), fileOf("b.jpg"));
    await until("sending");
    engine.cancel(id("a.jpg"));
    expect(item("a.jpg").phase).toBe("cancelled");
    gateway.onPut = null;
    await until("completed", "cancelled");
    await settled(() => {
      expect(gateway.photoOf("a.jpg").status).toBe("CANCELLED");
    });
    expect(gateway.photoOf("b.jpg").status).toBe("COMPLETED");
  });

  test("during the creation of its job", async () => {
    const { gateway, engine, add, until, id } = start();
    add(fileOf("a.jpg"), fileOf("b.jpg"));
    await Promise.resolve();
    engine.cancel(id("a.jpg"));
    await until("completed", "cancelled");
    await settled(() => {
      expect([...gateway.photos.values()].map((photo) => photo.status).sort()).toEqual(
        gateway.photos.size === 1 ? ["COMPLETED"] : ["CANCELLED", "COMPLETED"],
      );
    });
  });

  test("that comes too late shows what is", async () => {
    const { gateway, engine, add, until, id } = start();
    gateway.completes = false;
    add(fileOf("a.jpg"));
    await until("processing");
    gateway.photoOf("a.jpg").status = "COMPLETED";
    engine.cancel(id("a.jpg"));
    await until("completed");
  });

  test("is repeated through an outage", async () => {
    const { gateway, engine, add, until, id } = start();
    hold(gateway);
    add(fileOf("a.jpg"));
    await until("sending");
    gateway.fail("cancel", problem(503, "CATALOGUE_UNAVAILABLE"), problem(429, "RATE_LIMITED"));
    engine.cancel(id("a.jpg"));
    await settled(() => {
      expect(gateway.photoOf("a.jpg").status).toBe("CANCELLED");
    });
  });

  test("of all is one call for each job", async () => {
    const { gateway, engine, add, until } = start();
    hold(gateway);
    add(...Array.from({ length: 30 }, (_, index) => fileOf(`${index}.jpg`)));
    await until("sending");
    engine.cancelAll();
    await until("cancelled");
    await settled(() => {
      expect([...gateway.photos.values()].every(({ status }) => status === "CANCELLED")).toBe(true);
    });
    expect(gateway.count("cancelJob")).toBe(1);
    expect(gateway.count("cancel")).toBe(0);
  });

  test("of all leaves what is being processed", async () => {
    const { gateway, engine, add, until, id } = start();
    gateway.completes = false;
    add(fileOf("a.jpg"));
    await until("processing");
    hold(gateway);
    add(fileOf("b.jpg"));
    await until("processing", "sending");
    engine.cancelAll();
    await until("processing", "cancelled");
    gateway.setStatus(gateway.photoOf("a.jpg"), "COMPLETED");
    await until("completed", "cancelled");
    expect(engine.store.getState().items.get(id("b.jpg"))?.phase).toBe("cancelled");
  });
});

describe("the list", () => {
  test("clear removes what has ended, and only that", async () => {
    const { gateway, engine, add, until, id, items } = start();
    add(fileOf("a.jpg"));
    await until("completed");
    hold(gateway);
    add(fileOf("b.jpg"));
    await settled(() => {
      expect(engine.store.getState().summary.uploading).toBe(1);
    });
    engine.clear(id("b.jpg"));
    expect(items().length).toBe(2);
    engine.clearEnded();
    expect(items().map((item) => item.name)).toEqual(["b.jpg"]);
  });

  test("a failure that is cleared does not keep its job open", async () => {
    const { gateway, engine, add, until, id } = start();
    gateway.fail("signParts", problem(403, "NOT_GRANTED"));
    add(fileOf("b.jpg", 95));
    await until("failed");
    engine.clear(id("b.jpg"));
    await settled(() => {
      expect(gateway.photoOf("b.jpg").status).toBe("CANCELLED");
    });
  });

  test("priority is position", async () => {
    const { gateway, engine, add, until, id } = start();
    engine.setConcurrency(1);
    hold(gateway);
    add(fileOf("a.jpg"), fileOf("b.jpg"), fileOf("c.jpg"), fileOf("d.jpg"));
    await settled(() => {
      expect(gateway.putsNow).toBe(1);
    });
    engine.move(id("d.jpg"), id("b.jpg"));
    engine.move(id("b.jpg"), null);
    gateway.onPut = null;
    await until("completed");
    const order = gateway.log.filter((line) => line.startsWith("put"));
    const names = order.map((line) => gateway.photos.get(line.slice(4))?.file.filename);
    expect(names).toEqual(["a.jpg", "d.jpg", "c.jpg", "b.jpg"]);
  });

  test("fewer at once send the last ones back", async () => {
    const { gateway, engine, add, until, items } = start();
    hold(gateway);
    add(fileOf("a.jpg"), fileOf("b.jpg"), fileOf("c.jpg"));
    await until("sending");
    engine.setConcurrency(1);
    expect(items().map((item) => item.phase)).toEqual(["sending", "waiting", "waiting"]);
    gateway.onPut = null;
    await until("completed");
  });

  test("the same file is a duplicate until it is gone", async () => {
    const { gateway, engine, add, until, items } = start();
    add(fileOf("a.jpg"));
    await until("completed");
    add(fileOf("a.jpg"));
    expect(items().map((item) => item.phase)).toEqual(["completed", "duplicate"]);
    engine.clearEnded();
    add(fileOf("a.jpg"));
    await until("completed");
    expect(gateway.photos.size).toBe(2);
  });

  test("unchanged items keep their identity through a batch", async () => {
    const { engine, add, until, item } = start();
    add(fileOf("a.jpg"));
    await until("completed");
    const before = item("a.jpg");
    add(fileOf("b.jpg"));
    await until("completed");
    expect(engine.store.getState().items.get(before.id)).toBe(before);
  });
});

describe("after a reload", () => {
  let databases = 0;
  const reloading = async (phase: UploadPhase, keepsFiles = true) => {
    databases += 1;
    const name = `uploads-${databases}`;
    const gateway = new FakeGateway(10);
    const kept = openResumeStore(name);
    const first = start({ resume: kept, tab: tabOf("one"), owner: "ann" }, gateway);
    await first.engine.start();
    let parts = 0;
    gateway.onPut = ({ signal }) =>
      new Promise<void>((resolve) => {
        parts += 1;
        if (parts <= 4 || gateway.onPut === null) resolve();
        else {
          signal.addEventListener("abort", () => {
            resolve();
          });
        }
      });
    first.add(fileOf("b.jpg", 95));
    await settled(() => {
      expect(gateway.sentParts.length).toBe(4);
    });
    if (phase === "paused") first.engine.pauseAll();
    await vi.waitFor(async () => {
      expect(await kept.all()).toMatchObject([{ digest: expect.any(String) as string }]);
    });
    first.engine.stop();
    await kept.settled();
    gateway.onPut = null;
    const store = openResumeStore(name);
    if (!keepsFiles) {
      for (const { id } of await store.all()) store.removeFile(id);
      await store.settled();
    }
    const second = (owner = "ann", open: readonly string[] = []) =>
      start({ resume: openResumeStore(name), tab: tabOf("two", new Set(open)), owner }, gateway);
    return { gateway, second, store };
  };

  test("a multipart goes on with the parts that are missing", async () => {
    const { gateway, second, store } = await reloading("sending");
    const { engine, until } = second();
    await engine.start();
    await until("completed");
    expect(gateway.jobs.size).toBe(1);
    expect(gateway.sentParts.length).toBe(10);
    expect(new Set(gateway.sentParts).size).toBe(10);
    await settled(() => undefined);
    await vi.waitFor(async () => {
      expect(await store.all()).toEqual([]);
    });
  });

  test("what was paused is paused", async () => {
    const { second } = await reloading("paused");
    const { engine, items, until } = second();
    await engine.start();
    expect(items().map((item) => item.phase)).toEqual(["paused"]);
    engine.resumeAll();
    await until("completed");
  });

  test("without its file it asks for the same one, and takes no other", async () => {
    const { gateway, second } = await reloading("sending", false);
    const { engine, items, until, id } = second();
    await engine.start();
    await settled(() => {
      expect(items()[0]).toMatchObject({ phase: "needs-file", bytesSent: 40 });
    });
    const bytes = new Uint8Array(95);
    expect(
      await engine.provide([
        { file: fileOf("other.jpg", 95) },
        { file: fileOf("b.jpg", 94) },
        { file: new File([bytes], "b.jpg", { type: "image/jpeg" }) },
      ]),
    ).toEqual([]);
    expect(await engine.provide([{ file: fileOf("b.jpg", 95, { lastModified: 5 }) }])).toEqual([
      id("b.jpg"),
    ]);
    await until("completed");
    expect(gateway.sentParts.length).toBe(10);
  });

  test("a file that is dropped again goes on where it was", async () => {
    const { gateway, second } = await reloading("sending", false);
    const { engine, add, until, items } = second();
    await engine.start();
    add(fileOf("b.jpg", 95), fileOf("new.jpg"));
    await until("completed");
    expect(items().length).toBe(2);
    expect(gateway.photos.size).toBe(2);
  });

  test("other people and open pages keep theirs", async () => {
    const { second } = await reloading("sending");
    const bob = second("bob");
    await bob.engine.start();
    expect(bob.items()).toEqual([]);
    const other = second("ann", ["one"]);
    await other.engine.start();
    expect(other.items()).toEqual([]);
  });

  test("what the gateway says of it meanwhile counts", async () => {
    const { gateway, second } = await reloading("sending");
    gateway.photoOf("b.jpg").status = "COMPLETED";
    const { engine, until } = second();
    await engine.start();
    await until("completed");
    const gone = await reloading("paused");
    gone.gateway.jobs.clear();
    const page = gone.second();
    await page.engine.start();
    await page.until("failed");
    expect(page.items()[0]?.failure?.reason).toBe("JOB_NOT_FOUND");
    page.engine.retryAll();
    gone.gateway.photos.clear();
    await page.until("completed");
  });

  test("nothing stays when a person logs out", async () => {
    const { second, store } = await reloading("sending");
    const { engine } = second();
    await engine.start();
    engine.stop();
    await engine.forget();
    expect(await store.all()).toEqual([]);
  });

  test("the order of the queue stays, as it was changed by hand", async () => {
    const name = "uploads-order";
    const gateway = new FakeGateway(10);
    const names = Array.from({ length: 12 }, (_, index) => `${(index * 7) % 12}.jpg`);
    const kept = openResumeStore(name);
    const first = start({ resume: kept, tab: tabOf("one") }, gateway);
    await first.engine.start();
    first.engine.pauseAll();
    first.add(...names.map((each) => fileOf(each)));
    first.engine.move(first.id("3.jpg"), first.id("7.jpg"));
    first.engine.move(first.id("9.jpg"), first.id("3.jpg"));
    const rest = names.slice(1).filter((each) => !/^[39]/.test(each));
    const wanted = ["0.jpg", "9.jpg", "3.jpg", ...rest];
    first.engine.stop();
    await kept.settled();
    const second = start({ resume: openResumeStore(name), tab: tabOf("two") }, gateway);
    await second.engine.start();
    expect(second.items().map((item) => item.name)).toEqual(wanted);
  });

  test("without a database nothing is resumed, and nothing breaks", async () => {
    const open = vi.spyOn(indexedDB, "open").mockImplementation(() => {
      throw new DOMException("private", "InvalidStateError");
    });
    const { engine, add, until } = start({ resume: openResumeStore("none"), tab: tabOf("one") });
    await engine.start();
    add(fileOf("a.jpg"), fileOf("b.jpg", 95));
    await until("completed");
    expect(open).toHaveBeenCalled();
  });
});
