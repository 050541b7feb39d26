/** Mutual exclusion between the tabs and windows of this origin. */

export interface TabLock {
  /** Run alone among all tabs. `waited`: another one held the lock before. */
  run<T>(work: (waited: boolean) => Promise<T>): Promise<T>;
}

const LEASE_MS = 15_000;
const POLL_MS = 50;

/** By the Web Locks API where there is one; else by a lease in the storage. */
export function tabLock(
  name: string,
  locks: LockManager | null = locksOrNull(),
  storage: Storage | null = null,
): TabLock {
  return locks === null ? leaseLock(name, storage) : webLock(name, locks);
}

/** Null without a secure context, whatever the types say. */
export function locksOrNull(): LockManager | null {
  return typeof navigator !== "undefined" && "locks" in navigator ? navigator.locks : null;
}

function webLock(name: string, locks: LockManager): TabLock {
  return {
    run: async (work) => {
      const first = await locks.request(name, { ifAvailable: true }, async (lock) =>
        lock === null ? null : { value: await work(false) },
      );
      return first === null ? locks.request(name, () => work(true)) : first.value;
    },
  };
}

/** Pages of plain HTTP have no Web Locks. A tab that was closed leaves a lease, which ends. */
function leaseLock(name: string, storage: Storage | null): TabLock {
  let last: Promise<unknown> = Promise.resolve();
  const key = `${name}.lease`;
  const own = `${Math.random()}`;
  const holder = () => {
    const [id, until] = (storage?.getItem(key) ?? "").split(" ");
    return id !== undefined && id !== "" && Number(until) > Date.now() ? id : null;
  };
  const acquire = async () => {
    let waited = false;
    while (storage !== null) {
      const other = holder();
      if (other === null || other === own) {
        storage.setItem(key, `${own} ${Date.now() + LEASE_MS}`);
        // Two tabs may write at once; after a moment both see who was last.
        await pause(POLL_MS);
        if (holder() === own) break;
      }
      waited = true;
      await pause(POLL_MS);
    }
    return waited;
  };
  return {
    run: (work) => {
      const result = last.then(async () => {
        const waited = await acquire();
        try {
          return await work(waited);
        } finally {
          storage?.removeItem(key);
        }
      });
      last = result.catch(() => undefined);
      return result;
    },
  };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
