/** What the gallery shows, as the query of its URL: a link shows the same photos again. Pure. */
import type { PhotoStatus } from "@/lib/websocket/types";

export const SORTS = [
  "createdAt,desc",
  "createdAt,asc",
  "takenAt,desc",
  "takenAt,asc",
  "filename,asc",
  "filename,desc",
] as const;

export type Sort = (typeof SORTS)[number];

export const STATUSES: readonly PhotoStatus[] = [
  "COMPLETED",
  "PROCESSING",
  "UPLOADING",
  "QUEUED",
  "FAILED",
  "CANCELLED",
];

/** Days are `YYYY-MM-DD` in the zone of this browser, both included. */
export interface Filters {
  readonly tag: string | null;
  readonly q: string;
  readonly status: PhotoStatus | null;
  readonly from: string | null;
  readonly to: string | null;
  readonly sort: Sort;
}

export const NO_FILTERS: Filters = {
  tag: null,
  q: "",
  status: null,
  from: null,
  to: null,
  sort: "createdAt,desc",
};

/** Of the gateway, in bytes of UTF-8. */
const LONGEST_NAME = 255;
const LONGEST_TAG = 64;

/** Return the filters of a query string. What it has that is none is left out: links get old. */
export function filtersOf(search: string): Filters {
  const query = new URLSearchParams(search);
  const tag = query.get("tag")?.trim() ?? "";
  return {
    tag: tag === "" || Array.from(tag).length > LONGEST_TAG ? null : tag,
    q: cut(query.get("q") ?? "", LONGEST_NAME),
    status: STATUSES.find((status) => status === query.get("status")) ?? null,
    from: day(query.get("from")),
    to: day(query.get("to")),
    sort: SORTS.find((sort) => sort === query.get("sort")) ?? NO_FILTERS.sort,
  };
}

/** Return the query string, with `?`, of filters; empty for the defaults. */
export function searchOf(filters: Filters): string {
  const query = new URLSearchParams();
  if (filters.q !== "") query.set("q", filters.q);
  if (filters.tag !== null) query.set("tag", filters.tag);
  if (filters.status !== null) query.set("status", filters.status);
  if (filters.from !== null) query.set("from", filters.from);
  if (filters.to !== null) query.set("to", filters.to);
  if (filters.sort !== NO_FILTERS.sort) query.set("sort", filters.sort);
  const written = query.toString();
  return written === "" ? "" : `?${written}`;
}

/** Return whether the filters leave photos out; the order leaves out none. */
export function isFiltering(filters: Filters): boolean {
  return searchOf({ ...filters, sort: NO_FILTERS.sort }) !== "";
}

/** Parameters of `GET /queries/photos`, without paging. */
export interface PhotoQuery {
  tag?: string;
  q?: string;
  status?: PhotoStatus;
  takenFrom?: string;
  takenTo?: string;
  sort: Sort;
}

/** Return the parameters; the gateway's end of the range is exclusive, so it is the next day. */
export function queryOf(filters: Filters): PhotoQuery {
  const query: PhotoQuery = { sort: filters.sort };
  if (filters.tag !== null) query.tag = filters.tag;
  if (filters.q.trim() !== "") query.q = filters.q.trim();
  if (filters.status !== null) query.status = filters.status;
  const [from, to] = inOrder(filters.from, filters.to);
  if (from !== null) query.takenFrom = startOf(from, 0);
  if (to !== null) query.takenTo = startOf(to, 1);
  return query;
}

/** Someone who picks the end first means the same days. */
function inOrder(from: string | null, to: string | null): readonly [string | null, string | null] {
  return from !== null && to !== null && from > to ? [to, from] : [from, to];
}

function startOf(written: string, daysLater: number): string {
  const [year = 0, month = 1, date = 1] = written.split("-").map(Number);
  return new Date(year, month - 1, date + daysLater).toISOString();
}

function day(written: string | null): string | null {
  if (written === null || !/^(19|20)\d{2}-\d{2}-\d{2}$/u.test(written)) return null;
  // 31 February exists for no calendar.
  const parsed = new Date(`${written}T00:00:00Z`);
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(written)
    ? written
    : null;
}

function cut(text: string, bytes: number): string {
  const encoder = new TextEncoder();
  let kept = "";
  let length = 0;
  for (const character of text) {
    length += encoder.encode(character).length;
    if (length > bytes) break;
    kept += character;
  }
  return kept;
}
