/** The engine's state, what it knows of each file besides, and who hears of changes. */
import type { UploadItem, UploadState } from "@/stores/uploadTypes";
import type { UploadStore } from "@/stores/uploadStore";
import type { Ticket } from "@/lib/s3/single";
import { type Batcher, type Frames, createBatcher } from "./batcher";
import { QUIET, type UploadEvent, WITHOUT_JOB } from "./events";
import { reduceAll } from "./reducer";

/** Of a file, besides what is shown: changed in place, and gone with its item. */
export interface Work {
  /** Released when the bytes have arrived or the upload has ended for good. */
  file: File | null;
  handle: FileSystemFileHandle | null;
  readonly lastModified: number;
  readonly folder: string;
  /** See `duplicateKey`. */
  readonly key: string;
  /** See `digestOf`. */
  digest: string | null;
  ticket: Ticket | null;
  tusUrl: string | null;
  /** Of the sending under way. */
  controller: AbortController | null;
  /** A command is under way that decides how it goes on: it is not started meanwhile. */
  isHeld: boolean;
  /** Milliseconds since 1970 before which it is not started. */
  notBefore: number;
  isAwaitingNetwork: boolean;
  /** In a row, without any bytes that were taken in between. */
  failures: number;
  /** New attempts that nobody asked for. */
  retries: number;
  /** Milliseconds since 1970 at which the gateway began its present attempt; 0 for the first. */
  retriedAt: number;
}

/** A change of state: ids of the items that events have named. */
export interface Change {
  readonly before: UploadState;
  readonly after: UploadState;
  readonly ids: ReadonlySet<string>;
  /** Only bytes, speeds and pictures: nothing begins or ends by it. */
  readonly isQuiet: boolean;
}

export class EngineCore {
  readonly works = new Map<string, Work>();
  private readonly byPhoto = new Map<string, string>();
  /** Items without a job that may need one: nobody has to look for them in a long list. */
  private readonly jobless = new Set<string>();
  private pending: UploadEvent[] = [];
  private current: UploadState;
  private isApplying = false;
  /** Called when an item may be started that could not be before, without a change of state. */
  onReady: () => void = () => undefined;
  private readonly listeners: ((change: Change) => void)[] = [];
  private readonly batcher: Batcher;

  constructor(
    readonly store: UploadStore,
    frames?: Frames,
  ) {
    this.current = store.getState();
    this.batcher = createBatcher(() => {
      this.apply();
      if (this.store.getState() !== this.current) this.store.setState(this.current, true);
    }, frames);
  }

  /** The state after everything that has happened, which the store has with the next frame. */
  get state(): UploadState {
    this.apply();
    return this.current;
  }

  /** Events are applied before the next read or frame; loud ones before this returns. */
  dispatch(...events: UploadEvent[]): void {
    this.dispatchAll(events);
  }

  /** As `dispatch`, of any number: a call takes some hundred thousand arguments at most. */
  dispatchAll(events: readonly UploadEvent[]): void {
    for (const event of events) this.pending.push(event);
    this.batcher.schedule();
    if (events.some((event) => !QUIET.has(event.type))) this.apply();
  }

  /** Show the state now: people who pressed a button see it in the same task. */
  show(): void {
    this.batcher.schedule();
    this.batcher.flush();
  }

  onChange(listener: (change: Change) => void): void {
    this.listeners.push(listener);
  }

  item(id: string): UploadItem | undefined {
    return this.state.items.get(id);
  }

  idOf(photoId: string): string | undefined {
    return this.byPhoto.get(photoId);
  }

  get hasJobless(): boolean {
    this.apply();
    return this.jobless.size > 0;
  }

  /** Stop sending a file; its phase is the caller's business. */
  interrupt(id: string): void {
    const work = this.works.get(id);
    work?.controller?.abort();
    if (work !== undefined) work.controller = null;
  }

  /** Let go of a file whose bytes are not needed any more. */
  release(id: string): void {
    const work = this.works.get(id);
    if (work === undefined) return;
    work.file = null;
    work.handle = null;
    work.ticket = null;
  }

  stop(): void {
    for (const id of this.works.keys()) this.interrupt(id);
    this.batcher.flush();
    this.batcher.stop();
  }

  private apply(): void {
    // A listener's own events are applied after those that it has heard of.
    if (this.isApplying) return;
    this.isApplying = true;
    try {
      while (this.pending.length > 0) {
        const events = this.pending;
        this.pending = [];
        const before = this.current;
        this.current = reduceAll(before, events);
        if (this.current !== before) this.announce(before, events);
      }
    } finally {
      this.isApplying = false;
    }
  }

  private announce(before: UploadState, events: readonly UploadEvent[]): void {
    const ids = new Set(events.flatMap(idsOf));
    // A new place of one item may give others another rank.
    if (events.some(({ type }) => type === "moved")) {
      for (const [id, item] of this.current.items) if (before.items.get(id) !== item) ids.add(id);
    }
    for (const id of ids) this.index(before.items.get(id), this.current.items.get(id));
    const isQuiet = events.every((event) => QUIET.has(event.type));
    const change = { before, after: this.current, ids, isQuiet };
    for (const listener of this.listeners) listener(change);
  }

  private index(before: UploadItem | undefined, after: UploadItem | undefined): void {
    if (before !== undefined) this.jobless.delete(before.id);
    if (after?.jobId === null && WITHOUT_JOB.has(after.phase)) this.jobless.add(after.id);
    if (before?.photoId === after?.photoId) return;
    if (before?.photoId != null) this.byPhoto.delete(before.photoId);
    if (after?.photoId != null) this.byPhoto.set(after.photoId, after.id);
  }
}

function idsOf(event: UploadEvent): readonly string[] {
  if (event.type === "added") return event.items.map((item) => item.id);
  if (event.type === "removed") return event.ids;
  return "id" in event ? [event.id] : [];
}
