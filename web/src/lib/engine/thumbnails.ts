/** Fetches the pictures of rows that are seen, a few at a time. */
import { type PhotoCalls, thumbnailOf } from "@/lib/api/photos";
import type { EngineCore } from "./core";
import { Limiter } from "./limiter";

const AT_ONCE = 3;
const SIZE = 256;
/** Milliseconds before the end of a signed URL at which another one is fetched. */
const MARGIN_MS = 60_000;

export class Thumbnails {
  private readonly limiter = new Limiter(AT_ONCE);
  private readonly asked = new Set<string>();
  private readonly endsAt = new Map<string, number>();
  private readonly stopped = new AbortController();

  constructor(
    private readonly core: EngineCore,
    private readonly photos: Pick<PhotoCalls, "get">,
    private readonly now: () => number = Date.now,
  ) {}

  /** Show a picture of an item, if the gateway has one. A repeat costs nothing. */
  request(id: string): void {
    const item = this.core.item(id);
    if (item?.phase !== "completed" || item.photoId === null || this.asked.has(id)) return;
    const isShown = item.thumbnailUrl !== null;
    if (isShown && (this.endsAt.get(id) ?? Infinity) - this.now() > MARGIN_MS) return;
    this.asked.add(id);
    const { photoId } = item;
    void this.limiter
      .run(async () => {
        const photo = await this.photos.get(photoId, this.stopped.signal);
        const picture = thumbnailOf(photo, SIZE);
        if (picture === null) return;
        this.endsAt.set(id, Date.parse(picture.expiresAt));
        this.core.dispatch({ type: "pictured", id, url: picture.url });
      })
      // A row without a picture is no failure; it asks again when it is seen again.
      .catch(() => undefined)
      .finally(() => this.asked.delete(id));
  }

  stop(): void {
    this.stopped.abort();
  }
}
