// @vitest-environment node
import { afterEach, expect, test } from "vitest";
import { type Bench, benchOf, fileOf, tabOf } from "../../../tests/engineBench";
import { FakeGateway } from "../../../tests/fakeGateway";
import type { Tab } from "@/lib/resume/tabs";
import { openResumeStore } from "@/lib/resume/store";

const started: Bench[] = [];

afterEach(() => {
  for (const bench of started.splice(0)) bench.engine.stop();
});

/** A page on the uploads of those before it, and its store. */
function pageOf(id: string, tab: () => Promise<Tab> = tabOf(id)) {
  const store = openResumeStore("restoration");
  const bench = benchOf({ resume: store, tab, owner: "ann" }, new FakeGateway(10));
  started.push(bench);
  const names = () => {
    const { order, items } = bench.engine.store.getState();
    return order.map((each) => items.get(each)?.name);
  };
  return { ...bench, store, names };
}

test("files that come before those of a former page stand behind them, over reloads too", async () => {
  const first = pageOf("one");
  await first.engine.start();
  first.engine.pauseAll();
  first.add(fileOf("a.jpg"), fileOf("b.jpg"));
  first.engine.stop();
  await first.store.settled();

  let open: (tab: Tab) => void = () => undefined;
  const opening = new Promise<Tab>((resolve) => {
    open = resolve;
  });
  const second = pageOf("two", () => opening);
  second.engine.pauseAll();
  const starting = second.engine.start();
  second.add(fileOf("c.jpg"));
  open(await tabOf("two")());
  await starting;
  expect(second.names()).toEqual(["a.jpg", "b.jpg", "c.jpg"]);
  second.add(fileOf("d.jpg"));
  second.engine.stop();
  await second.store.settled();

  const third = pageOf("three");
  await third.engine.start();
  expect(third.names()).toEqual(["a.jpg", "b.jpg", "c.jpg", "d.jpg"]);
});
