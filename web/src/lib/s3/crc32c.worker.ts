/** Computes checksums beside the page, which has its frames to draw. */
import { crc32cOf } from "./crc32c";

self.onmessage = (event: MessageEvent<{ readonly id: number; readonly blob: Blob }>) => {
  const { id, blob } = event.data;
  crc32cOf(blob).then(
    (crc) => {
      self.postMessage({ id, crc });
    },
    () => {
      self.postMessage({ id, crc: null });
    },
  );
};
