import { describe, expect, it, vi } from "vitest";
import { createDeletions, forEachLimited, type DeletionDeps } from "./deletions";

function setUp(remove: DeletionDeps["remove"] = () => Promise.resolve()) {
  const deps = {
    remove: vi.fn(remove),
    removeOnLeave: vi.fn<DeletionDeps["removeOnLeave"]>(),
    token: vi.fn(() => Promise.resolve("token")),
    onFailed: vi.fn<DeletionDeps["onFailed"]>(),
    onRemoved: vi.fn<DeletionDeps["onRemoved"]>(),
  };
  const deletions = createDeletions(deps);
  return { deps, deletions, hidden: () => [...deletions.store.getState().hidden] };
}

describe("deletions", () => {
  it("hide photos at once, and delete nothing before they are committed", () => {
    const { deps, deletions, hidden } = setUp();
    deletions.schedule(["a", "b"]);
    expect(hidden()).toEqual(["a", "b"]);
    expect(deps.remove).not.toHaveBeenCalled();
  });

  it("show photos again when undone, and never delete them", async () => {
    const { deps, deletions, hidden } = setUp();
    const batch = deletions.schedule(["a"]);
    deletions.undo(batch);
    await deletions.commit(batch);
    deletions.flush();
    expect(hidden()).toEqual([]);
    expect(deps.remove).not.toHaveBeenCalled();
    expect(deps.removeOnLeave).not.toHaveBeenCalled();
  });

  it("undo the latest first", () => {
    const { deletions, hidden } = setUp();
    deletions.schedule(["a"]);
    deletions.schedule(["b"]);
    deletions.undoLatest();
    expect(hidden()).toEqual(["a"]);
    deletions.undoLatest();
    expect(deletions.undoLatest()).toBeNull();
  });

  it("delete each photo once, also if committed again", async () => {
    const { deps, deletions, hidden } = setUp();
    const batch = deletions.schedule(["a", "b"]);
    await Promise.all([deletions.commit(batch), deletions.commit(batch)]);
    expect(deps.remove.mock.calls).toEqual([["a"], ["b"]]);
    expect(deps.onRemoved).toHaveBeenCalledExactlyOnceWith(["a", "b"]);
    expect(hidden()).toEqual(["a", "b"]);
  });

  it("show photos again that could not be deleted", async () => {
    const error = new Error("down");
    const { deps, deletions, hidden } = setUp((id) =>
      id === "b" ? Promise.reject(error) : Promise.resolve(),
    );
    await deletions.commit(deletions.schedule(["a", "b", "c"]));
    expect(hidden()).toEqual(["a", "c"]);
    expect(deps.onFailed).toHaveBeenCalledWith(["b"], error);
    expect(deps.onRemoved).toHaveBeenCalledWith(["a", "c"]);
  });

  it("delete what waits when the page is left, with the token that is known", async () => {
    const { deps, deletions } = setUp();
    deletions.schedule(["a"]);
    await deps.token.mock.results[0]?.value;
    deletions.flush();
    deletions.flush();
    expect(deps.removeOnLeave.mock.calls).toEqual([["a", "token"]]);
  });
});

it("forEachLimited keeps to the limit and does all", async () => {
  let [running, most] = [0, 0];
  const done: number[] = [];
  await forEachLimited([1, 2, 3, 4, 5], 2, async (item) => {
    most = Math.max(most, (running += 1));
    await Promise.resolve();
    running -= 1;
    done.push(item);
  });
  expect(most).toBe(2);
  expect(done.toSorted((one, other) => one - other)).toEqual([1, 2, 3, 4, 5]);
});
