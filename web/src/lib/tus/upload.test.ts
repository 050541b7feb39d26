// @vitest-environment node
import { beforeEach, describe, expect, test, vi } from "vitest";
import { NetworkError } from "@/lib/api/errors";
import { SessionEnded } from "@/lib/api/session";
import { sendByTus } from "./upload";

/** What the next senders do, in their order. */
type Step = { readonly status: number; readonly reason?: string } | "done" | "hang" | Error;

interface Options {
  readonly endpoint: string;
  readonly uploadUrl: string | null;
  readonly metadata: Record<string, string>;
  readonly onBeforeRequest: (request: object) => Promise<void>;
  readonly onProgress: (bytes: number) => void;
  readonly onUploadUrlAvailable: () => void;
  readonly onSuccess: () => void;
  readonly onError: (error: Error) => void;
}

const bench = vi.hoisted(() => ({
  steps: [] as unknown[],
  options: [] as unknown[],
  headers: [] as string[],
  aborts: 0,
}));

vi.mock("tus-js-client", () => ({
  Upload: class {
    url: string | null;
    constructor(
      readonly file: Blob,
      readonly given: Options,
    ) {
      this.url = given.uploadUrl;
      bench.options.push(given);
    }
    start() {
      void this.run();
    }
    abort() {
      bench.aborts += 1;
      return Promise.resolve();
    }
    private async run() {
      const step = bench.steps.shift() as Step;
      try {
        await this.given.onBeforeRequest({
          setHeader: (_name: string, value: string) => bench.headers.push(value),
        });
      } catch (error) {
        this.given.onError(
          Object.assign(new Error("tus"), { originalResponse: null, causingError: error }),
        );
        return;
      }
      if (step === "hang") return;
      if (step instanceof Error) {
        this.given.onError(step);
        return;
      }
      if (step !== "done") {
        const body = JSON.stringify({ reason: step.reason ?? "UNKNOWN" });
        this.given.onError(
          Object.assign(new Error("tus"), {
            originalResponse: {
              getStatus: () => step.status,
              getBody: () => body,
              getHeader: (name: string) => (name === "Retry-After" ? "3" : undefined),
            },
            causingError: null,
          }),
        );
        return;
      }
      this.url ??= "https://gateway.test/files/new";
      this.given.onUploadUrlAvailable();
      this.given.onProgress(99);
      this.given.onSuccess();
    }
  },
}));

beforeEach(() => {
  Object.assign(bench, { steps: [], options: [], headers: [], aborts: 0 });
});

async function sending(steps: readonly Step[], uploadUrl: string | null = null) {
  bench.steps = [...steps];
  const urls: string[] = [];
  const progress: number[] = [];
  const renewals: boolean[] = [];
  const error: unknown = await sendByTus({
    endpoint: "https://gateway.test/files/",
    session: {
      token: (options) => {
        renewals.push(options?.renew === true);
        return Promise.resolve(`t${renewals.length}`);
      },
    },
    photoId: "p",
    file: new Blob(["abc"]),
    uploadUrl,
    signal: new AbortController().signal,
    onProgress: (bytes) => progress.push(bytes),
    onUrl: (url) => urls.push(url),
  }).catch((each: unknown) => each);
  const options = bench.options as Options[];
  return { error, urls, progress, renewals, options };
}

describe("sendByTus", () => {
  test("creates an upload of the photo and tells where it goes on", async () => {
    const { error, urls, progress, options } = await sending(["done"]);
    expect(error).toBeUndefined();
    expect(options[0]).toMatchObject({ uploadUrl: null, metadata: { photoId: "p" } });
    expect(urls).toEqual(["https://gateway.test/files/new"]);
    expect(progress).toEqual([3]);
    expect(bench.headers).toEqual(["Bearer t1"]);
  });

  test("goes on where it was", async () => {
    const { options } = await sending(["done"], "https://gateway.test/files/old");
    expect(options[0]?.uploadUrl).toBe("https://gateway.test/files/old");
  });

  test.each([404, 410])("an upload that is gone (%i) is created anew", async (status) => {
    const { error, options } = await sending(
      [{ status, reason: "UPLOAD_GONE" }, "done"],
      "https://gateway.test/files/old",
    );
    expect(error).toBeUndefined();
    expect(options[1]?.uploadUrl).toBeNull();
  });

  test("a token that is refused is renewed", async () => {
    const { error, renewals } = await sending([{ status: 401, reason: "TOKEN_EXPIRED" }, "done"]);
    expect(error).toBeUndefined();
    expect(renewals).toEqual([false, true]);
  });

  test("another offset is asked for", async () => {
    const { error } = await sending([{ status: 409, reason: "UPLOAD_OFFSET_MISMATCH" }, "done"]);
    expect(error).toBeUndefined();
  });

  test.each([
    [404, "PHOTO_NOT_FOUND"],
    [409, "PHOTO_ENDED"],
    [422, "BAD_PHOTO_SIZE"],
    [501, "TUS_NEEDS_KEYS"],
    [503, "INTAKE_UNAVAILABLE"],
  ])("%i %s is the engine's business", async (status, reason) => {
    const { error } = await sending([{ status, reason }]);
    expect(error).toMatchObject({ name: "ApiError", status, reason, retryAfterSeconds: 3 });
  });

  test("no answer, and no session", async () => {
    const none = Object.assign(new Error("tus"), { originalResponse: null, causingError: null });
    expect((await sending([none])).error).toBeInstanceOf(NetworkError);
    bench.steps = ["done"];
    await expect(
      sendByTus({
        endpoint: "https://gateway.test/files/",
        session: { token: () => Promise.reject(new SessionEnded()) },
        photoId: "p",
        file: new Blob(["abc"]),
        uploadUrl: null,
        signal: new AbortController().signal,
        onProgress: () => undefined,
        onUrl: () => undefined,
      }),
    ).rejects.toBeInstanceOf(SessionEnded);
  });

  test("the signal stops it, and the upload stays", async () => {
    bench.steps = ["hang"];
    const controller = new AbortController();
    const sent = sendByTus({
      endpoint: "https://gateway.test/files/",
      session: { token: () => Promise.resolve(null) },
      photoId: "p",
      file: new Blob(["abc"]),
      uploadUrl: null,
      signal: controller.signal,
      onProgress: () => undefined,
      onUrl: () => undefined,
    });
    await vi.waitFor(() => {
      expect(bench.options.length).toBe(1);
    });
    controller.abort();
    await expect(sent).rejects.toMatchObject({ name: "AbortError" });
    expect(bench.aborts).toBe(1);
    expect(bench.headers).toEqual([]);
  });
});
