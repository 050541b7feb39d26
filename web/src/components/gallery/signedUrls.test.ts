import { describe, expect, it } from "vitest";
import { createSignedUrls, RENEW_BEFORE_MS, renewalTime } from "./signedUrls";

const NOW = Date.parse("2026-11-30T12:00:00Z");
const HOUR = 3_600_000;
const photo = (signature: string, end: number, path = "/t/1/256.webp") => ({
  thumbnails: [
    {
      size: 256,
      width: 256,
      height: 171,
      mimeType: "image/webp",
      url: `https://store${path}?signature=${signature}`,
      expiresAt: new Date(end).toISOString(),
    },
  ],
});
const urlOf = (found: ReturnType<typeof photo>) => found.thumbnails[0]?.url;

describe("signed URLs", () => {
  it("stay the same while they are valid for some minutes more", () => {
    const urls = createSignedUrls();
    urls.keep(photo("1", NOW + HOUR), NOW);
    const again = urls.keep(photo("2", NOW + 2 * HOUR), NOW + HOUR - RENEW_BEFORE_MS - 1);
    expect(urlOf(again)).toContain("signature=1");
  });

  it("are replaced before they end", () => {
    const urls = createSignedUrls();
    urls.keep(photo("1", NOW + HOUR), NOW);
    const again = urls.keep(photo("2", NOW + 2 * HOUR), NOW + HOUR - RENEW_BEFORE_MS);
    expect(urlOf(again)).toContain("signature=2");
  });

  it("are replaced when the photo was processed anew", () => {
    const urls = createSignedUrls();
    urls.keep(photo("1", NOW + HOUR), NOW);
    expect(urlOf(urls.keep(photo("2", NOW + HOUR, "/t/2/256.webp"), NOW))).toContain("signature=2");
  });

  it("are renewed at a time at which they are replaced", () => {
    const renewAt = renewalTime([photo("1", NOW + 2 * HOUR), photo("2", NOW + HOUR)]);
    const urls = createSignedUrls();
    urls.keep(photo("1", NOW + HOUR), NOW);
    expect(renewAt).toBeLessThan(NOW + HOUR);
    expect(urlOf(urls.keep(photo("2", NOW + 3 * HOUR), renewAt ?? 0))).toContain("signature=2");
    expect(renewalTime([])).toBeNull();
  });
});
