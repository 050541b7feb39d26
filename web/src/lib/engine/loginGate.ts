/** Keeps uploads waiting while nobody is logged in. */
import type { Session } from "@/lib/api/session";

const POLL_MS = 10_000;

export class LoginGate {
  private closed = false;
  private timer: ReturnType<typeof setInterval> | null = null;
  private readonly unsubscribe: (() => void) | undefined;

  /** @param onOpen - somebody is logged in again. */
  constructor(
    private readonly session: Session & { subscribe?(listener: () => void): () => void },
    private readonly onOpen: () => void,
  ) {
    this.unsubscribe = session.subscribe?.(() => {
      if (this.closed) void this.look();
    });
  }

  get isClosed(): boolean {
    return this.closed;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.timer = setInterval(() => {
      void this.look();
    }, POLL_MS);
  }

  stop(): void {
    this.unsubscribe?.();
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  private async look(): Promise<void> {
    try {
      await this.session.token();
    } catch {
      return; // not yet
    }
    if (!this.closed) return;
    this.closed = false;
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    this.onOpen();
  }
}
