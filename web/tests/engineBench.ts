/** An engine on a fake gateway, and how to wait for what it does. */
import "fake-indexeddb/auto";
import { vi } from "vitest";
import { FakeGateway } from "./fakeGateway";
import type { Session } from "@/lib/api/session";
import { type UploadEngine, type UploadEngineDeps, createUploadEngine } from "@/lib/engine/engine";
import type { Tab } from "@/lib/resume/tabs";
import type { LiveUpdates } from "@/lib/websocket/types";
import type { UploadItem, UploadPhase } from "@/stores/uploadTypes";

export const SESSION: Session = { token: () => Promise.resolve(null) };

export function fileOf(name: string, size = 9, more: FilePropertyBag = {}): File {
  const bytes = Uint8Array.from({ length: size }, (_, index) => (index * 7 + name.length) % 251);
  return new File([bytes], name, { type: "image/jpeg", lastModified: 1000, ...more });
}

/** A page that nobody else has. */
export function tabOf(id: string, openTabs: ReadonlySet<string> = new Set()): () => Promise<Tab> {
  return () =>
    Promise.resolve({
      id,
      adopting: (work) => work((tab) => openTabs.has(tab)),
      close: () => undefined,
    });
}

export interface Bench {
  readonly gateway: FakeGateway;
  readonly engine: UploadEngine;
  readonly target: EventTarget;
  readonly followed: Set<string>;
  readonly items: () => readonly UploadItem[];
  readonly item: (name: string) => UploadItem;
  readonly id: (name: string) => string;
  readonly add: (...files: File[]) => void;
  /** Resolves when all items are in one of these phases. */
  readonly until: (...phases: UploadPhase[]) => Promise<void>;
}

export function benchOf(
  more: Partial<UploadEngineDeps> = {},
  gateway: FakeGateway = new FakeGateway(10),
): Bench {
  gateway.singleMax = 20;
  const followed = new Set<string>();
  const target = new EventTarget();
  const engine = createUploadEngine({
    baseUrl: "https://gateway.test",
    session: SESSION,
    calls: gateway.calls,
    put: gateway.put,
    resume: null,
    checksums: null,
    frames: {
      request: (call) => Number(setTimeout(call, 1)),
      cancel: (id) => {
        clearTimeout(id);
      },
    },
    repeat: { pause: () => Promise.resolve(), random: () => 0, tries: 3 },
    probe: () => Promise.resolve(true),
    target,
    tab: tabOf("tab"),
    live: (listener): LiveUpdates => {
      gateway.listener = listener;
      return {
        follow: (job) => void followed.add(job),
        unfollow: (job) => void followed.delete(job),
        wake: () => undefined,
        stop: () => undefined,
      };
    },
    ...more,
  });
  const items = () => [...engine.store.getState().items.values()];
  const item = (name: string) => {
    const found = items().find((each) => each.name === name);
    if (found === undefined) throw new Error(`There is no item ${name}.`);
    return found;
  };
  return {
    gateway,
    engine,
    target,
    followed,
    items,
    item,
    id: (name) => item(name).id,
    add: (...files) => {
      engine.add(files.map((file) => ({ file })));
    },
    until: (...phases) =>
      vi.waitFor(
        () => {
          const other = items().find((each) => !phases.includes(each.phase));
          if (other !== undefined) throw new Error(`${other.name} is ${other.phase}.`);
          if (items().length === 0) throw new Error("There is no item yet.");
        },
        { timeout: 5000, interval: 5 },
      ),
  };
}
