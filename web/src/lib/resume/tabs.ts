/** Which page has which uploads: a page takes over only those of pages that are closed. */
import { locksOrNull } from "@/lib/api/tabLock";
import { newKey } from "@/lib/api/upload";

export interface Tab {
  readonly id: string;
  /** Run while no other page adopts; `isOpen` says whether a page still has its uploads. */
  adopting<T>(work: (isOpen: (tab: string) => boolean) => Promise<T>): Promise<T>;
  close(): void;
}

const PREFIX = "sluice.tab.";
const ADOPTION = "sluice.adoption";
const KEY = "sluice.tab";

/** By Web Locks, which end with their page. Without them a page knows its own uploads only. */
export async function openTab(
  locks: LockManager | null = locksOrNull(),
  session: Storage | null = sessionStorageOrNull(),
): Promise<Tab> {
  if (locks === null) return lonelyTab(session);
  const id = newKey();
  const closed = new AbortController();
  await new Promise<void>((resolve) => {
    void locks.request(PREFIX + id, () => {
      resolve();
      return new Promise<void>((end) => {
        closed.signal.addEventListener("abort", () => {
          end();
        });
      });
    });
  });
  return {
    id,
    adopting: async (work) =>
      locks.request(ADOPTION, async () => {
        const held = (await locks.query()).held ?? [];
        const open = new Set(held.map((lock) => lock.name));
        return work((tab) => open.has(PREFIX + tab));
      }),
    close: () => {
      closed.abort();
    },
  };
}

/** Pages of plain HTTP have no Web Locks; the storage of a tab survives its reloads. */
function lonelyTab(session: Storage | null): Tab {
  const id = session?.getItem(KEY) ?? newKey();
  session?.setItem(KEY, id);
  return {
    id,
    adopting: (work) => work((tab) => tab !== id),
    close: () => undefined,
  };
}

function sessionStorageOrNull(): Storage | null {
  try {
    return globalThis.sessionStorage;
  } catch {
    return null;
  }
}
