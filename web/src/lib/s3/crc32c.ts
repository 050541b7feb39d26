/** CRC32C (Castagnoli), as stores verify it. */

const POLYNOMIAL = 0x82f63b78;
const TABLES = tables();
const BLOCK = 512 * 1024;

/** Eight tables, so that one step takes eight bytes. */
function tables(): readonly Uint32Array[] {
  const first = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    first[byte] = crc;
  }
  const all = [first];
  for (let former = first; all.length < 8;) {
    const next = former.map((crc) => (crc >>> 8) ^ (first[crc & 255] ?? 0));
    all.push(next);
    former = next;
  }
  return all;
}

/** Continue a checksum, which begins with 0, by further bytes. */
export function updateCrc32c(crc: number, bytes: Uint8Array): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  if (!t0 || !t1 || !t2 || !t3 || !t4 || !t5 || !t6 || !t7) throw new Error("unreachable");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let value = ~crc >>> 0;
  let at = 0;
  const look = (table: Uint32Array, index: number) => table[index & 255] ?? 0;
  for (; at + 8 <= bytes.length; at += 8) {
    const low = value ^ view.getUint32(at, true);
    const high = view.getUint32(at + 4, true);
    value =
      look(t7, low) ^
      look(t6, low >>> 8) ^
      look(t5, low >>> 16) ^
      look(t4, low >>> 24) ^
      look(t3, high) ^
      look(t2, high >>> 8) ^
      look(t1, high >>> 16) ^
      look(t0, high >>> 24);
  }
  for (; at < bytes.length; at += 1) value = (value >>> 8) ^ look(t0, value ^ view.getUint8(at));
  return ~value >>> 0;
}

/** The checksum of a blob, read in blocks: no task takes longer than one block, about 2 ms. */
export async function crc32cOf(blob: Blob): Promise<number> {
  let crc = 0;
  for (let start = 0; start < blob.size; start += BLOCK) {
    const block = await blob.slice(start, start + BLOCK).arrayBuffer();
    crc = updateCrc32c(crc, new Uint8Array(block));
  }
  return crc;
}

/** Eight hexadecimal digits, as the gateway wants them. */
export function crc32cText(crc: number): string {
  return (crc >>> 0).toString(16).padStart(8, "0");
}
