import { renderHook } from "@testing-library/react";
import { expect, test } from "vitest";
import { useDeferredGrowth } from "./useDeferredGrowth";

function drawn(first: readonly string[], second: readonly string[]) {
  const seen: (readonly string[])[] = [];
  const { rerender } = renderHook(
    ({ list }) => {
      seen.push(useDeferredGrowth(list));
    },
    { initialProps: { list: first } },
  );
  seen.length = 0;
  rerender({ list: second });
  return seen;
}

test("shows what is added one render later", () => {
  const first = ["a"];
  const second = ["a", "b"];
  expect(drawn(first, second)).toEqual([first, second]);
});

test.each([
  ["a new order", ["a", "b"], ["b", "a"]],
  ["what is left", ["a", "b"], ["b"]],
])("shows %s at once", (_, first, second) => {
  for (const list of drawn(first, second)) expect(list).toEqual(second);
});
