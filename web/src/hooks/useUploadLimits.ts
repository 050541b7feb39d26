/** What the gateway takes, asked of it while somebody is logged in. */
import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { isPassing } from "@/lib/api/repeat";
import type { UploadCalls } from "@/lib/api/upload";
import type { UploadEngine } from "@/lib/engine/engine";
import { limitsOf } from "@/lib/engine/limits";

const KEY = ["upload-limits"];
/** An operator changes them with a restart of the gateway: pages that stay open learn it. */
const STALE_MS = 10 * 60_000;
const LONGEST_DELAY_MS = 30_000;

/**
 * Give the engine the limits of the operator, so that it refuses files before it sends anything.
 * Until the answer is there, the gateway refuses them.
 */
export function useUploadLimits(
  engine: Pick<UploadEngine, "setLimits">,
  calls: Pick<UploadCalls, "limits">,
): void {
  const { data } = useQuery({
    queryKey: KEY,
    queryFn: async ({ signal }) => limitsOf(await calls.limits(signal)),
    staleTime: STALE_MS,
    refetchInterval: STALE_MS,
    // Sets are not compared by content.
    structuralSharing: false,
    retry: (_, error) => isPassing(error),
    retryDelay: (failures) => Math.min(1000 * 2 ** failures, LONGEST_DELAY_MS),
  });
  useEffect(() => {
    if (data !== undefined) engine.setLimits(data);
  }, [engine, data]);
}
