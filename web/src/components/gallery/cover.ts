/** Whether a photo lies over the page, whose other parts can neither be seen nor used then. */
import { useLayoutEffect } from "react";
import { useRoute } from "wouter";
import { useStore } from "zustand";
import { createStore } from "zustand/vanilla";
import { GALLERY_PATH } from "./paths";

const covers = createStore<{ readonly count: number }>(() => ({ count: 0 }));

/** Cover the page while this component is mounted. */
export function useCover(): void {
  useLayoutEffect(() => {
    const change = (by: number) => {
      covers.setState(({ count }) => ({ count: count + by }));
    };
    change(1);
    return () => {
      change(-1);
    };
  }, []);
}

/**
 * Whether a photo is shown. By its address alone the page would stay out of reach when the photo's
 * page could not be loaded; by what is mounted alone, it would be in reach only after the focus
 * has to be back in the grid.
 */
export function useIsPhotoOpen(): boolean {
  const [, params] = useRoute<{ readonly id?: string }>(`${GALLERY_PATH}/:id?`);
  const isMounted = useStore(covers, ({ count }) => count > 0);
  return params?.id !== undefined && isMounted;
}
