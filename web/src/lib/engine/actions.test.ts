// @vitest-environment node
import { expect, test } from "vitest";
import { itemOf } from "../../../tests/items";
import { createUploadStore } from "@/stores/uploadStore";
import { type ActionDeps, createActions } from "./actions";
import { EngineCore } from "./core";

test("all of any number of uploads are paused at once", () => {
  const count = 200_000;
  const core = new EngineCore(createUploadStore(), { request: () => 0, cancel: () => undefined });
  const items = Array.from({ length: count }, (_, index) => itemOf(`${index}`, { rank: index }));
  core.dispatch({ type: "added", items });
  const actions = createActions({ core } as unknown as ActionDeps);
  actions.pauseAll();
  expect(core.state.summary.paused).toBe(count);
});
