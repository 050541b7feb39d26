/** How many photos of folders were found so far, while folders are read. */
import { createStore } from "zustand/vanilla";

interface CollectState {
  /** Null while no folder is read. */
  readonly found: number | null;
}

export const collectStore = createStore<CollectState>(() => ({ found: null }));
