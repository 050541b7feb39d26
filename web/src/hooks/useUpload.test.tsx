import { act, render, screen } from "@testing-library/react";
import { describe, expect, test, vi } from "vitest";
import { itemOf } from "../../tests/items";
import type { UploadEngine } from "@/lib/engine/engine";
import { INITIAL_STATE, reduceAll } from "@/lib/engine/reducer";
import {
  countsOf,
  createFilteredIds,
  createUploadStore,
  hasEnded,
  selectItem,
  selectOrder,
  selectSummary,
} from "@/stores/uploadStore";
import { UploadProvider, useThumbnail, useUploadActions, useUploadItem } from "./useUpload";

const two = reduceAll(INITIAL_STATE, [{ type: "added", items: [itemOf("a"), itemOf("b")] }]);

function engineOf() {
  const store = createUploadStore(two);
  const requestThumbnail = vi.fn();
  const cancel = vi.fn();
  const engine = { store, requestThumbnail, cancel } as unknown as UploadEngine;
  return { store, engine, requestThumbnail, cancel };
}

describe("hooks", () => {
  test("a row is drawn again only for its own item", () => {
    const { store, engine, requestThumbnail, cancel } = engineOf();
    const drawn = { a: 0, b: 0 };
    const Row = ({ id }: { readonly id: "a" | "b" }) => {
      drawn[id] += 1;
      const actions = useUploadActions();
      return (
        <button
          type="button"
          onClick={() => {
            actions.cancel(id);
          }}
        >
          {`${id} ${useUploadItem(id)?.phase ?? ""} ${useThumbnail(id) ?? ""}`}
        </button>
      );
    };
    render(
      <UploadProvider engine={engine}>
        <Row id="a" />
        <Row id="b" />
      </UploadProvider>,
    );
    act(() => {
      store.setState(
        reduceAll(store.getState(), [
          { type: "entered", id: "a", phase: "completed" },
          { type: "pictured", id: "a", url: "picture" },
        ]),
        true,
      );
    });
    expect(screen.getByText("a completed picture")).toBeDefined();
    expect(drawn.b).toBe(1);
    expect(drawn.a).toBeGreaterThan(1);
    expect(requestThumbnail).toHaveBeenCalledWith("a");
    screen.getByText(/^b/).click();
    expect(cancel).toHaveBeenCalledWith("b");
  });

  test("outside of the provider is a defect", () => {
    const silent = vi.spyOn(console, "error").mockImplementation(() => undefined);
    const Row = () => <p>{useUploadItem("a")?.name}</p>;
    expect(() => render(<Row />)).toThrow("UploadProvider");
    silent.mockRestore();
  });
});

describe("selectors", () => {
  test("tabs and their counts", () => {
    const state = reduceAll(two, [
      { type: "added", items: [itemOf("c", { phase: "rejected" })] },
      { type: "entered", id: "a", phase: "completed" },
    ]);
    expect(countsOf(selectSummary(state))).toEqual({ all: 3, active: 1, completed: 1, failed: 1 });
    const ids = createFilteredIds();
    expect(ids(state, "active")).toEqual(["b"]);
    const before = ids(state, "active");
    const later = reduceAll(state, [{ type: "entered", id: "b", phase: "sending" }]);
    expect(ids(later, "active")).toBe(before);
    expect(ids(state, "completed")).toEqual(["a"]);
    expect(ids(state, "failed")).toEqual(["c"]);
    expect(ids(state, "all")).toBe(selectOrder(state));
    expect(selectItem("a")(state)?.phase).toBe("completed");
    expect([...state.items.values()].map(hasEnded)).toEqual([true, false, true]);
  });
});
