import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { jobView, update } from "../../../tests/live/updates";
import {
  isJobEnd,
  parseJson,
  readJob,
  readReason,
  readSnapshotPiece,
  readTokenNotice,
  readUpdate,
} from "./messages";

describe("messages", () => {
  it("are taken as the contract has them", () => {
    const message = update();
    expect(readUpdate(message)).toEqual(message);
    expect(readUpdate({ ...message, unknown: 1 })).toEqual(message);
    const job = update({ photoId: null, status: "IN_PROGRESS", reason: null });
    expect(readUpdate(job)).toEqual(job);
    expect(readUpdate({ ...message, bytesSent: undefined })?.bytesSent).toBeNull();
  });

  it.each([
    ["no object", null],
    ["a list", []],
    ["no job", { ...update(), jobId: "" }],
    ["a number for a photo", { ...update(), photoId: 7 }],
    ["no photo at all", { ...update(), photoId: undefined }],
    ["an unknown status", { ...update(), status: "LOST" }],
    ["a job's status of a photo", { ...update(), status: "IN_PROGRESS" }],
    ["a photo's status of a job", { ...update(), photoId: null, status: "UPLOADING" }],
    ["progress above 100", { ...update(), progress: 101 }],
    ["a negative sequence", { ...update(), sequence: -1 }],
    ["a text for a sequence", { ...update(), sequence: "10" }],
  ])("are refused with %s", (_, value) => {
    expect(readUpdate(value)).toBeNull();
    expect(readSnapshotPiece({ complete: true, updates: [value] })).toBeNull();
  });

  it("never throw, whatever arrives", () => {
    fc.assert(
      fc.property(fc.anything(), fc.string(), (value, text) => {
        for (const read of [readUpdate, readJob, readSnapshotPiece, readReason, readTokenNotice]) {
          read(value);
          read(parseJson(text));
        }
      }),
    );
  });

  it("of polling have the same form, the job last", () => {
    expect(readJob(jobView())).toEqual([
      update({ progress: 50, bytesSent: 50, sequence: 0 }),
      update({
        photoId: null,
        status: "IN_PROGRESS",
        progress: 50,
        bytesSent: 50,
        sequence: 0,
      }),
    ]);
    expect(readJob({ jobId: "j1" })).toBeNull();
  });

  it("say when a job ends", () => {
    expect(["COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"].every(isJobEnd)).toBe(
      true,
    );
    expect(["QUEUED", "IN_PROGRESS"].some(isJobEnd)).toBe(false);
  });

  it("say when a token ends", () => {
    expect(readTokenNotice({ type: "TOKEN_EXPIRES", secondsLeft: 60 })).toBe(60);
    expect(readTokenNotice({ type: "OTHER", secondsLeft: 60 })).toBeNull();
  });
});
