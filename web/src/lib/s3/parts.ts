/** Division of a file into parts, and their numbers as text. Pure. */

export interface PartPlan {
  readonly size: number;
  /** Bytes of every part but the last. */
  readonly partSize: number;
  readonly count: number;
}

export function planParts(size: number, partSize: number): PartPlan {
  return { size, partSize, count: Math.ceil(size / partSize) };
}

/** Where a part begins and ends, in bytes; numbers begin with 1. */
export function rangeOf(plan: PartPlan, number: number): readonly [start: number, end: number] {
  const start = (number - 1) * plan.partSize;
  return [start, Math.min(start + plan.partSize, plan.size)];
}

export function sizeOf(plan: PartPlan, number: number): number {
  const [start, end] = rangeOf(plan, number);
  return end - start;
}

/** Longest value of the metadata of a problem: a longer list is cut, so it is not believed. */
const MAX_METADATA_CHARS = 256;

/** Part numbers such as `1-3,7`; null if they are not exactly that, or not of the plan. */
export function parseNumbers(text: string | undefined, plan: PartPlan): readonly number[] | null {
  if (text === undefined || text === "" || text.length >= MAX_METADATA_CHARS) return null;
  const numbers = new Set<number>();
  for (const run of text.split(",")) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(run);
    if (match === null) return null;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first < 1 || last < first || last > plan.count) return null;
    for (let number = first; number <= last; number += 1) numbers.add(number);
  }
  return [...numbers];
}
