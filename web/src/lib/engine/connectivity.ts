/**
 * Whether the gateway can be reached. The browser's own word is a hint only: a machine without a
 * network reaches a gateway on itself, and one with a network may reach nothing.
 */
import { sleep } from "@/lib/api/client";
import { type Backoff, jittered } from "./backoff";

export interface Connectivity {
  /** A call got no answer: find out, and look until there is one again. */
  suspect(): void;
  start(): void;
  stop(): void;
}

export interface ConnectivityDeps {
  /** Resolves with whether anything answered. Never rejects. */
  readonly probe: (signal: AbortSignal) => Promise<boolean>;
  readonly onChange: (isOnline: boolean) => void;
  readonly target?: EventTarget;
  readonly backoff?: Backoff;
}

export const PROBE_BACKOFF: Backoff = { baseMs: 500, capMs: 3000 };

export function createConnectivity(deps: ConnectivityDeps): Connectivity {
  const { probe, onChange, target = window, backoff = PROBE_BACKOFF } = deps;
  const stopped = new AbortController();
  let isProbing = false;
  let wake = new AbortController();

  const look = async () => {
    for (let attempt = 0; !stopped.signal.aborted; attempt += 1) {
      if (await probe(stopped.signal)) {
        onChange(true);
        return;
      }
      onChange(false);
      wake = new AbortController();
      const either = AbortSignal.any([stopped.signal, wake.signal]);
      // Half of it for sure: nobody is served by probes without a pause.
      const delayMs = backoff.baseMs / 2 + jittered(attempt, backoff);
      await sleep(delayMs, either).catch(() => undefined);
    }
  };
  const suspect = () => {
    if (isProbing || stopped.signal.aborted) return;
    isProbing = true;
    void look().finally(() => {
      isProbing = false;
    });
  };
  const hear = () => {
    wake.abort();
    suspect();
  };
  return {
    suspect,
    start: () => {
      target.addEventListener("online", hear);
      target.addEventListener("offline", hear);
    },
    stop: () => {
      stopped.abort();
      target.removeEventListener("online", hear);
      target.removeEventListener("offline", hear);
    },
  };
}

/** What a proxy answers in place of a gateway that it cannot reach. */
const OF_PROXIES: ReadonlySet<number> = new Set([502, 503, 504]);

/** Any answer of the gateway counts: a server that refuses is there. */
export function healthProbe(
  baseUrl: string,
  send: typeof fetch = (input, init) => fetch(input, init),
): (signal: AbortSignal) => Promise<boolean> {
  return async (signal) => {
    try {
      const { status } = await send(`${baseUrl}/healthz`, {
        cache: "no-store",
        signal: AbortSignal.any([signal, AbortSignal.timeout(3000)]),
      });
      return !OF_PROXIES.has(status);
    } catch {
      return false;
    }
  };
}
