/** The upload engine: what people ask for, what happens, and what follows from it. */
import type { StoreApi } from "zustand/vanilla";
import { type Api, createApi } from "@/lib/api/client";
import { photoCalls } from "@/lib/api/photos";
import type { RepeatOptions } from "@/lib/api/repeat";
import type { Session } from "@/lib/api/session";
import { type UploadCalls, uploadCalls } from "@/lib/api/upload";
import { type ResumeStore, openResumeStore } from "@/lib/resume/store";
import { type Tab, openTab } from "@/lib/resume/tabs";
import { type Checksums, createChecksums } from "@/lib/s3/checksums";
import { createPartPool } from "@/lib/s3/partPool";
import type { put } from "@/lib/s3/put";
import type { LiveListener, LiveUpdates } from "@/lib/websocket/types";
import { createUploadStore } from "@/stores/uploadStore";
import type { BatchEnd, UploadActions, UploadLimits, UploadState } from "@/stores/uploadTypes";
import { createActions } from "./actions";
import { Batches } from "./batches";
import type { Frames } from "./batcher";
import { Commands } from "./commands";
import { createConnectivity, healthProbe } from "./connectivity";
import { EngineCore } from "./core";
import { Following } from "./following";
import { Intake } from "./intake";
import { JobCreator } from "./jobs";
import { LoginGate } from "./loginGate";
import { Meter } from "./meter";
import { ProgressReporter } from "./progressReporter";
import { Queue } from "./queue";
import { createReconciler } from "./reconcile";
import { Restoration } from "./restoration";
import { Sender } from "./sender";
import { Thumbnails } from "./thumbnails";

export interface UploadEngineDeps {
  /** Of the gateway, without a slash at its end; empty for the page's own origin. */
  readonly baseUrl: string;
  /** With `subscribe`, uploads go on as soon as somebody is logged in again. */
  readonly session: Session & { subscribe?(listener: () => void): () => void };
  /** Follows the jobs that have not ended; without it the caller follows them. */
  readonly live?: (listener: LiveListener) => LiveUpdates;
  /** Whose uploads are resumed: the user's id. */
  readonly owner?: string;
  /** Parts of a file at once. */
  readonly partsPerFile?: number;
  /** Null: nothing is resumed after a reload. */
  readonly resume?: ResumeStore | null;
  /** Null: parts are sent without checksums. */
  readonly checksums?: Checksums | null;
  readonly api?: Api;
  /** For tests. */
  readonly calls?: UploadCalls;
  readonly frames?: Frames;
  readonly put?: typeof put;
  readonly repeat?: RepeatOptions;
  readonly tab?: () => Promise<Tab>;
  readonly probe?: (signal: AbortSignal) => Promise<boolean>;
  readonly target?: EventTarget;
}

export interface UploadEngine extends UploadActions {
  readonly store: StoreApi<UploadState>;
  readonly listener: LiveListener;
  /** Returns how to hear no more. */
  onBatchEnd(listener: (end: BatchEnd) => void): () => void;
  /** Of files that are added from now on. Without it the gateway refuses what it does not take. */
  setLimits(limits: UploadLimits): void;
  /** Fetch the picture of an item that is shown and completed; it appears in its item. */
  requestThumbnail(id: string): void;
  /** Take over what a former page left, and begin. Never rejects. */
  start(): Promise<void>;
  /** Stop everything; what is under way can be resumed by another page. */
  stop(): void;
  /** After `stop`, when a person logs out: nothing of theirs stays in this browser. */
  forget(): Promise<void>;
}

const PARTS_PER_FILE = 3;

export function createUploadEngine(deps: UploadEngineDeps): UploadEngine {
  const { baseUrl, session } = deps;
  const api = deps.api ?? createApi(baseUrl, session);
  const calls = deps.calls ?? uploadCalls(api);
  const core = new EngineCore(createUploadStore(), deps.frames);
  const checksums = deps.checksums === undefined ? createChecksums() : deps.checksums;
  const pool = createPartPool();
  const repeat = deps.repeat === undefined ? {} : { repeat: deps.repeat };
  const resume = deps.resume === undefined ? openResumeStore() : deps.resume;

  const connectivity = createConnectivity({
    probe: deps.probe ?? healthProbe(baseUrl),
    ...(deps.target === undefined ? {} : { target: deps.target }),
    onChange: (isOnline) => {
      core.dispatch({ type: "network", isOnline });
    },
  });
  const gate = new LoginGate(session, () => {
    queue.wake();
  });
  const setLimits = (limits: UploadLimits) => {
    core.dispatch({ type: "limits", limits });
  };
  const onNetworkError = () => {
    connectivity.suspect();
  };
  const onSessionEnded = () => {
    gate.close();
  };
  const failing = { onNetworkError, onSessionEnded };
  const commands = new Commands({ core, calls, ...failing, ...repeat });
  const intake = new Intake(core);
  const jobs = new JobCreator({
    core,
    calls,
    ...failing,
    isBlocked: () => gate.isClosed,
    onUnwanted: (photoId) => {
      commands.cancelPhoto(photoId);
    },
    onLimit: (maxPhotoBytes) => {
      setLimits({ ...core.state.limits, maxPhotoBytes });
    },
  });
  const sender = new Sender({
    core,
    calls,
    session,
    baseUrl,
    pool,
    partsPerFile: deps.partsPerFile ?? PARTS_PER_FILE,
    crc32c: checksums === null ? null : (blob) => checksums.crc32c(blob),
    ...failing,
    onRetry: (id) => {
      commands.retry(id);
    },
    onTusUrl: (id) => {
      restoration.keeper?.refresh(id);
    },
    onFailedForGood: (photoId) => {
      commands.cancelPhoto(photoId);
    },
    ...(deps.put === undefined ? {} : { put: deps.put }),
    ...repeat,
  });
  const queue = new Queue({ core, jobs, sender, pool, isBlocked: () => gate.isClosed });
  const reporter = new ProgressReporter(calls);
  const meter = new Meter(core, (state) => {
    reporter.tick(state);
  });
  const batches = new Batches(core);
  const reconciler = createReconciler(core);
  const thumbnails = new Thumbnails(core, photoCalls(api));
  const following =
    deps.live === undefined ? null : new Following(core, deps.live(reconciler.listener));
  const restoration = new Restoration({
    core,
    calls,
    reconciler,
    store: resume,
    owner: deps.owner ?? "",
    openTab: deps.tab ?? (() => openTab()),
    ...repeat,
  });

  return {
    ...createActions({ core, commands, intake, queue }),
    store: core.store,
    listener: reconciler.listener,
    onBatchEnd: (listener) => batches.onEnd(listener),
    setLimits,
    requestThumbnail: (id) => {
      thumbnails.request(id);
    },
    start: async () => {
      connectivity.start();
      await restoration.start();
      queue.wake();
    },
    stop: () => {
      connectivity.stop();
      gate.stop();
      queue.stop();
      jobs.stop();
      commands.stop();
      thumbnails.stop();
      following?.stop();
      meter.stop();
      core.stop();
      checksums?.stop();
      restoration.stop();
    },
    forget: () => restoration.forget(),
  };
}
