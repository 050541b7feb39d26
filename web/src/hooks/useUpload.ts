/** The uploads for React: each component is drawn again only for what it reads. */
import { createContext, createElement, type ReactNode, useContext, useEffect } from "react";
import { useStore } from "zustand";
import type { UploadEngine } from "@/lib/engine/engine";
import type { UploadActions, UploadItem, UploadState } from "@/stores/uploadTypes";

const EngineContext = createContext<UploadEngine | null>(null);

export interface UploadProviderProps {
  readonly engine: UploadEngine;
  readonly children?: ReactNode;
}

/** The engine is started and stopped by who created it. */
export function UploadProvider({ engine, children }: UploadProviderProps): ReactNode {
  return createElement(EngineContext.Provider, { value: engine }, children);
}

/** @throws outside of `UploadProvider`. */
export function useUploadEngine(): UploadEngine {
  const engine = useContext(EngineContext);
  if (engine === null) throw new Error("useUpload is used outside of UploadProvider.");
  return engine;
}

export function useUploadActions(): UploadActions {
  return useUploadEngine();
}

/** The selector has to return the same value for the same state: no new arrays or objects. */
export function useUploadState<T>(selector: (state: UploadState) => T): T {
  return useStore(useUploadEngine().store, selector);
}

export function useUploadItem(id: string): UploadItem | undefined {
  return useUploadState((state) => state.items.get(id));
}

/** The picture of a row that is shown; fetched when the photo is completed. */
export function useThumbnail(id: string): string | null {
  const engine = useUploadEngine();
  const phase = useUploadState((state) => state.items.get(id)?.phase);
  const url = useUploadState((state) => state.items.get(id)?.thumbnailUrl ?? null);
  useEffect(() => {
    if (phase === "completed") engine.requestThumbnail(id);
  }, [engine, id, phase]);
  return url;
}
