// @vitest-environment node
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { benchOf, fileOf } from "../../../tests/engineBench";
import { problem } from "../../../tests/fakeGateway";
import { NetworkError } from "@/lib/api/errors";
import { StoreError } from "@/lib/s3/put";
import { ENDED } from "./events";
import { recount } from "./summary";

/** What people, networks and servers do, to the files of a list. */
type Step =
  | { readonly do: "add"; readonly size: number }
  | { readonly do: "pauseAll" | "resumeAll" | "cancelAll" | "retryAll" | "clearEnded" | "wait" }
  | { readonly do: "pause" | "resume" | "cancel" | "retry" | "clear" | "move"; readonly at: number }
  | { readonly do: "fail"; readonly what: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.integer({ min: 1, max: 60 }).map((size): Step => ({ do: "add", size })),
  },
  {
    weight: 3,
    arbitrary: fc
      .constantFrom("pauseAll", "resumeAll", "cancelAll", "retryAll", "clearEnded", "wait")
      .map((name): Step => ({ do: name })),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.constantFrom("pause", "resume", "cancel", "retry", "clear", "move"), fc.nat(9))
      .map(([name, at]): Step => ({ do: name, at })),
  },
  { weight: 2, arbitrary: fc.nat(6).map((what): Step => ({ do: "fail", what })) },
);

const AGREEING: Readonly<Record<string, readonly string[]>> = {
  completed: ["COMPLETED"],
  // A cancellation is on its way, or was faster than the photo.
  cancelled: ["CANCELLED"],
};

test("whatever happens, all ends, the sums are right, and the gateway agrees", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 25 }), async (steps) => {
      const { gateway, engine, items, add } = benchOf();
      let files = 0;
      const perform = async (each: Step) => {
        switch (each.do) {
          case "add":
            files += 1;
            add(fileOf(`${files}.jpg`, each.size));
            return;
          case "wait":
            await new Promise((resolve) => setTimeout(resolve, 2));
            return;
          case "fail":
            [
              () => {
                gateway.fail("put", new StoreError("busy", 503, null));
              },
              () => {
                gateway.fail("put", new StoreError("refused", 400, null));
              },
              () => {
                gateway.fail("signParts", problem(409, "UPLOAD_REPLACED"));
              },
              () => {
                gateway.fail("finalize", new NetworkError());
              },
              () => {
                gateway.fail("createJob", problem(503, "BACK_PRESSURE", {}, [], 0.001));
              },
              () => {
                gateway.fail("retry", problem(404, "PHOTO_NOT_FOUND"));
              },
              () => {
                gateway.expireUrls();
              },
            ][each.what]?.();
            return;
          case "pause":
          case "resume":
          case "cancel":
          case "retry":
          case "clear": {
            const id = engine.store.getState().order[each.at];
            if (id !== undefined) engine[each.do](id);
            return;
          }
          case "move": {
            const { order } = engine.store.getState();
            const id = order[each.at];
            if (id !== undefined) engine.move(id, order[0] ?? null);
            return;
          }
          default:
            engine[each.do]();
        }
      };
      try {
        for (const each of steps) {
          await perform(each);
          const state = engine.store.getState();
          expect(state.summary).toMatchObject(recount(state.items.values()));
        }
        engine.resumeAll();
        await vi.waitFor(
          () => {
            const open = items().find((item) => !ENDED.has(item.phase));
            if (open !== undefined) throw new Error(`${open.name} is ${open.phase}.`);
            for (const { phase, photoId } of items()) {
              const photo = photoId === null ? undefined : gateway.photos.get(photoId);
              const agreeing = AGREEING[phase];
              if (photo !== undefined && agreeing !== undefined) {
                expect(agreeing).toContain(photo.status);
              }
            }
          },
          { timeout: 4000, interval: 4 },
        );
        for (const { phase, size, photoId } of items()) {
          if (phase !== "completed" || photoId === null) continue;
          const photo = gateway.photos.get(photoId);
          const name = photo?.file.filename ?? "";
          const bytes = new Uint8Array(await fileOf(name, size).arrayBuffer());
          expect(photo?.content).toEqual(bytes);
        }
        // An aborted PUT may still be ending.
        await vi.waitFor(() => {
          expect(gateway.putsNow).toBe(0);
        });
      } finally {
        engine.stop();
      }
    }),
    { numRuns: 40, endOnFailure: true },
  );
}, 60_000);
