/** Live updates of the page, as long as somebody is logged in. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import type { Session } from "@/lib/api/session";
import { createLiveUpdates } from "@/lib/websocket/client";
import { withPhotoCache } from "@/lib/websocket/photoCache";
import type { LiveRelay } from "@/lib/websocket/relay";
import type { LiveListener, LiveOptions, LiveUpdates } from "@/lib/websocket/types";

export interface WebSocketOptions {
  /** Of the engine, which follows jobs by it. Kept over connections. */
  readonly relay: LiveRelay;
  /** The engine's. */
  readonly listener: LiveListener;
  /** Null while nobody is logged in: nothing is connected then. */
  readonly session: Session | null;
  /** Of the gateway; empty, as by default: the page's own. */
  readonly baseUrl?: string;
  /** Of tests. */
  readonly create?: (options: LiveOptions) => LiveUpdates;
}

/**
 * Connect while the component is there and somebody is logged in. Updates go to the listener, and
 * into the queries whose keys begin with `photos` or `photo`.
 *
 * All options should be the same objects in each render: another one begins a new connection.
 */
export function useWebSocket(options: WebSocketOptions): void {
  const { relay, listener, session, baseUrl = "", create = createLiveUpdates } = options;
  const queries = useQueryClient();
  useEffect(() => {
    if (session === null) return undefined;
    const cached = withPhotoCache(listener, queries);
    const disconnect = relay.connect(() =>
      create({
        baseUrl: baseUrl === "" ? window.location.origin : baseUrl,
        listener: cached,
        token: (wanted) => session.token(wanted),
      }),
    );
    return () => {
      disconnect();
      cached.stop();
    };
  }, [relay, listener, session, baseUrl, create, queries]);
}
