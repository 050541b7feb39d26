// @vitest-environment node
import fc from "fast-check";
import { expect, test } from "vitest";
import { beforeIdOf } from "./queueOrder";

test("an item takes the place of the one that it is dropped on", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 30 }),
      fc.nat({ max: 29 }),
      fc.nat({ max: 29 }),
      (count, a, b) => {
        const order = Array.from({ length: count }, (_, index) => `i${index}`);
        const [id, over] = [order[a % count], order[b % count]];
        if (id === undefined || over === undefined || id === over) return;
        const before = beforeIdOf(order, id, over);
        const rest = order.filter((one) => one !== id);
        const index = before === null ? rest.length : rest.indexOf(before);
        const moved = [...rest.slice(0, index), id, ...rest.slice(index)];
        expect(moved.indexOf(id)).toBe(order.indexOf(over));
      },
    ),
  );
});
