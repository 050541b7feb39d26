// @vitest-environment node
import { describe, expect, test, vi } from "vitest";
import { answerOf, createApi, sleep } from "./client";
import { ApiError, NetworkError, retryAfterOf } from "./errors";
import { photoCalls, thumbnailOf } from "./photos";
import { isPassing, repeated } from "./repeat";
import { SessionEnded } from "./session";
import { newKey, uploadCalls } from "./upload";

function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(status === 204 ? null : JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json", ...headers },
  });
}

/** A client on given answers, and the requests that it has sent. */
function clientOf(...answers: (Response | Error)[]) {
  const requests: Request[] = [];
  const delays: number[] = [];
  const renewals: boolean[] = [];
  const session = {
    token: (options?: { readonly renew: boolean }) => {
      renewals.push(options?.renew === true);
      return Promise.resolve(`t${renewals.length}`);
    },
  };
  const api = createApi("https://gateway.test", session, {
    fetch: (request) => {
      requests.push(request);
      const answer = answers.shift() ?? json(200, {});
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
    sleep: (ms) => {
      delays.push(ms);
      return Promise.resolve();
    },
  });
  return { api, requests, delays, renewals, calls: uploadCalls(api), photos: photoCalls(api) };
}

const problem = {
  reason: "BAD_PHOTO_SIZE",
  detail: "Too large; send less.",
  errors: [{ field: "files.3.bytes", detail: "Too large." }, { nonsense: true }],
  metadata: { status: "FAILED", other: 5 },
  retryAfterSeconds: 1.5,
};

describe("createApi", () => {
  test("sends the token, the key and the body", async () => {
    const { calls, requests } = clientOf(json(201, { jobId: "j", items: [] }));
    const files = [{ filename: "a.jpg", mimeType: "image/jpeg" as const, bytes: 9 }];
    expect(await calls.createJob(files, "s3-presigned", "key")).toEqual({ jobId: "j", items: [] });
    const [request] = requests;
    expect(request?.headers.get("authorization")).toBe("Bearer t1");
    expect(request?.headers.get("idempotency-key")).toBe("key");
    expect(await request?.json()).toEqual({ files, strategy: "s3-presigned" });
  });

  test("a refused token is renewed once, and the body sent again", async () => {
    const { calls, requests, renewals } = clientOf(json(401, { reason: "TOKEN_EXPIRED" }));
    await calls.finalize("p", "u", "key");
    expect(renewals).toEqual([false, true]);
    expect(requests[1]?.headers.get("authorization")).toBe("Bearer t2");
    expect(await requests[1]?.json()).toEqual({ uploadId: "u" });
  });

  test("a second refusal ends the session", async () => {
    const refusal = () => json(401, { reason: "BAD_TOKEN" });
    const { calls } = clientOf(refusal(), refusal());
    await expect(calls.renew("p")).rejects.toBeInstanceOf(SessionEnded);
  });

  test("an error has all that the answer says", async () => {
    const { calls } = clientOf(json(422, problem));
    const error = await calls.renew("p").catch((each: unknown) => each);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({
      status: 422,
      reason: "BAD_PHOTO_SIZE",
      detail: "Too large; send less.",
      retryAfterSeconds: 1.5,
      metadata: { status: "FAILED" },
      fields: [{ field: "files.3.bytes", detail: "Too large." }],
    });
  });

  test("the answer of a proxy is an error with its status", async () => {
    const html = new Response("<html>", { status: 502, headers: { "content-type": "text/html" } });
    const { calls } = clientOf(html);
    await expect(calls.renew("p")).rejects.toMatchObject({ reason: "HTTP_502", status: 502 });
  });

  test("no answer, and an abort", async () => {
    const { calls } = clientOf(new TypeError("offline"));
    await expect(calls.renew("p")).rejects.toBeInstanceOf(NetworkError);
    const controller = new AbortController();
    const api = createApi(
      "https://gateway.test",
      { token: () => Promise.resolve(null) },
      {
        fetch: (request) =>
          new Promise((_, reject) => {
            request.signal.addEventListener("abort", () => {
              reject(new DOMException("Aborted", "AbortError"));
            });
            controller.abort();
          }),
      },
    );
    await expect(uploadCalls(api).renew("p", controller.signal)).rejects.toMatchObject({
      name: "AbortError",
    });
  });

  test("a call that takes too long is a timeout", async () => {
    const api = createApi(
      "https://gateway.test",
      { token: () => Promise.resolve(null) },
      {
        timeoutMs: 10,
        fetch: (request) =>
          new Promise((_, reject) => {
            request.signal.addEventListener("abort", () => {
              reject(new DOMException("Timeout", "TimeoutError"));
            });
          }),
      },
    );
    await expect(uploadCalls(api).getJob("j")).rejects.toMatchObject({
      name: "NetworkError",
      isTimeout: true,
    });
  });

  test("queries are repeated after Retry-After, commands are not", async () => {
    const busy = () => json(503, { reason: "CATALOGUE_UNAVAILABLE" }, { "retry-after": "2" });
    const query = clientOf(busy(), busy(), json(200, { jobId: "j" }));
    expect(await query.calls.getJob("j")).toEqual({ jobId: "j" });
    expect(query.delays).toEqual([2000, 2000]);
    const command = clientOf(busy());
    await expect(command.calls.renew("p")).rejects.toMatchObject({ retryAfterSeconds: 2 });
    const long = clientOf(json(429, { reason: "RATE_LIMITED" }, { "retry-after": "60" }));
    await expect(long.calls.getJob("j")).rejects.toMatchObject({ reason: "RATE_LIMITED" });
  });

  test("every command and query has its path", async () => {
    const { calls, photos, requests } = clientOf(
      ...Array.from({ length: 8 }, () => json(200, {})),
      json(202, { accepted: 1, ignored: [] }),
      json(200, {}),
      json(200, {}),
      json(200, {}),
      json(204, null),
    );
    await calls.limits();
    await calls.cancelJob("j", "k");
    await calls.signParts("p", { parts: [] });
    await calls.signParts("p", { uploadId: "u", parts: [{ partNumber: 1, crc32c: "00000000" }] });
    await calls.renew("p");
    await calls.retry("p", "k");
    await calls.reprocess("p", "k");
    await calls.cancel("p", "k");
    await calls.reportProgress([{ photoId: "p", bytesSent: 1, bytesTotal: 2 }]);
    await photos.list({ tag: "sea", size: 10 });
    await photos.get("p");
    await photos.downloadUrl("p", "256");
    await photos.remove("p");
    await photos.listTags({ size: 5 });
    await photos.addTags("p", ["a"], "k");
    await photos.removeTags("p", ["a", "b"]);
    expect(requests.map(({ method, url }) => `${method} ${url.slice(20)}`)).toEqual([
      "GET /queries/upload-limits",
      "POST /commands/upload-jobs/j/cancel",
      "POST /commands/upload/p/parts",
      "POST /commands/upload/p/parts",
      "POST /commands/upload/p/renew",
      "POST /commands/upload/p/retry",
      "POST /commands/photos/p/reprocess",
      "POST /commands/upload/p/cancel",
      "POST /commands/upload/progress",
      "GET /queries/photos?tag=sea&size=10",
      "GET /queries/photos/p",
      "GET /queries/photos/p/download-url?variant=256",
      "DELETE /commands/photos/p",
      "GET /queries/tags?size=5",
      "POST /commands/photos/p/tags",
      "DELETE /commands/photos/p/tags?tag=a&tag=b",
    ]);
  });

  test("an answer without a body", async () => {
    const { api } = clientOf(json(204, null));
    const call = api.DELETE("/commands/photos/{photoId}", { params: { path: { photoId: "p" } } });
    await expect(answerOf(call)).resolves.toBeUndefined();
  });
});

describe("repeated", () => {
  const failing = (...errors: Error[]) =>
    vi.fn(() => {
      const error = errors.shift();
      return error === undefined ? Promise.resolve("done") : Promise.reject(error);
    });
  const delays: number[] = [];
  const options = {
    pause: (ms: number) => {
      delays.push(ms);
      return Promise.resolve();
    },
    random: () => 1,
  };

  test("passing errors are repeated, with the delay that was asked for", async () => {
    delays.length = 0;
    const call = failing(new NetworkError(), new ApiError(503, "BACK_PRESSURE", null, 30));
    expect(await repeated(call, options)).toBe("done");
    expect(delays).toEqual([500, 31_000]);
  });

  test("others are not, and none for ever", async () => {
    const refused = failing(new ApiError(409, "PHOTO_ENDED", null, null));
    await expect(repeated(refused, options)).rejects.toMatchObject({ reason: "PHOTO_ENDED" });
    expect(refused).toHaveBeenCalledTimes(1);
    const down = failing(...Array.from({ length: 9 }, () => new NetworkError()));
    await expect(repeated(down, { ...options, tries: 3 })).rejects.toBeInstanceOf(NetworkError);
    expect(down).toHaveBeenCalledTimes(3);
  });

  test("which errors pass", () => {
    expect(isPassing(new ApiError(409, "REQUEST_IN_PROGRESS", null, 1))).toBe(true);
    expect(isPassing(new ApiError(504, "X", null, null))).toBe(true);
    expect(isPassing(new ApiError(501, "ACCOUNTS_DISABLED", null, null))).toBe(false);
    expect(isPassing(new ApiError(507, "QUOTA_EXCEEDED", null, null))).toBe(false);
    expect(isPassing(new SessionEnded())).toBe(false);
  });

  test("a pause ends with its signal", async () => {
    const controller = new AbortController();
    const pause = sleep(60_000, controller.signal);
    controller.abort();
    await expect(pause).rejects.toMatchObject({ name: "AbortError" });
    await expect(sleep(1, controller.signal)).rejects.toMatchObject({ name: "AbortError" });
    await sleep(1);
  });
});

test("Retry-After in both forms", () => {
  expect(retryAfterOf("3")).toBe(3);
  expect(retryAfterOf("Thu, 01 Jan 1970 00:00:10 GMT", 4000)).toBe(6);
  expect(retryAfterOf("soon")).toBeNull();
  expect(retryAfterOf("")).toBeNull();
  expect(retryAfterOf(null)).toBeNull();
});

test("keys are 32 characters and differ", () => {
  expect(newKey()).toMatch(/^[0-9a-f]{32}$/);
  expect(newKey()).not.toBe(newKey());
});

test("the picture that is large enough, else the largest", () => {
  const of = (size: number) => ({
    size,
    width: 1,
    height: 1,
    mimeType: "image/webp",
    url: `${size}`,
    expiresAt: "2026-01-01T00:00:00Z",
  });
  expect(thumbnailOf({ thumbnails: [of(1024), of(256)] }, 200)?.size).toBe(256);
  expect(thumbnailOf({ thumbnails: [of(256), of(1024)] }, 300)?.size).toBe(1024);
  expect(thumbnailOf({ thumbnails: [of(256)] }, 300)?.size).toBe(256);
  expect(thumbnailOf({ thumbnails: [] }, 300)).toBeNull();
});
