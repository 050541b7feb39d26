/** The signed URLs of a file's parts, asked for a few at a time, with the parts' checksums. */
import type { PartsView } from "@/lib/api/upload";
import { crc32cText } from "./crc32c";
import { type SignedPut, isUsable } from "./repeatedPut";

export interface PartUrlsDeps {
  /** Numbers of the parts that are to be sent, in that order. */
  readonly missing: readonly number[];
  /** Parts of one request. */
  readonly batch: number;
  readonly crc32c: ((number: number) => Promise<number>) | null;
  readonly sign: (
    parts: readonly { readonly partNumber: number; readonly crc32c?: string }[],
  ) => Promise<PartsView>;
  readonly now?: () => number;
}

interface Signed extends SignedPut {
  readonly expiresAt: string;
  readonly signedAt: number;
}

export class PartUrls {
  private readonly urls = new Map<number, Promise<Signed>>();
  private readonly checksums = new Map<number, string>();
  private readonly now: () => number;

  constructor(private readonly deps: PartUrlsDeps) {
    this.now = deps.now ?? Date.now;
  }

  /**
   * The URL of a part, signed anew if the last one has ended or was refused.
   *
   * @throws what signing and reading the part throw.
   */
  async get(number: number, mustRenew: boolean): Promise<SignedPut> {
    const known = this.urls.get(number);
    if (known !== undefined && !mustRenew) {
      const signed = await known;
      if (isUsable(signed.expiresAt, signed.signedAt, this.now())) return signed;
    }
    // Others may have waited for the same one.
    const current = this.urls.get(number);
    if (current !== undefined && current !== known) return current;
    return this.sign(mustRenew || known !== undefined ? [number] : this.batchFrom(number), number);
  }

  private batchFrom(number: number): readonly number[] {
    const from = this.deps.missing.indexOf(number);
    const next = this.deps.missing.slice(Math.max(0, from));
    return next.filter((each) => !this.urls.has(each)).slice(0, this.deps.batch);
  }

  private async sign(numbers: readonly number[], wanted: number): Promise<Signed> {
    const answer = this.ask(numbers);
    for (const number of numbers) {
      const signed = answer.then((all) => {
        const found = all.get(number);
        if (found === undefined) throw new Error(`No URL was signed for part ${number}.`);
        return found;
      });
      // A failed request is asked again by the next one who needs it, and nobody else sees it.
      signed.catch(() => {
        if (this.urls.get(number) === signed) this.urls.delete(number);
      });
      this.urls.set(number, signed);
    }
    const asked = this.urls.get(wanted);
    if (asked === undefined) throw new Error(`Part ${wanted} is not one of those to be sent.`);
    return asked;
  }

  private async ask(numbers: readonly number[]): Promise<ReadonlyMap<number, Signed>> {
    const parts = [];
    for (const number of numbers) {
      const crc32c = await this.checksum(number);
      parts.push(crc32c === null ? { partNumber: number } : { partNumber: number, crc32c });
    }
    const signedAt = this.now();
    const view = await this.deps.sign(parts);
    return new Map(
      view.parts.map((part) => [
        part.partNumber,
        {
          url: part.presignedUrl,
          headers: part.headers,
          expiresAt: part.expiresAt,
          signedAt,
        },
      ]),
    );
  }

  private async checksum(number: number): Promise<string | null> {
    if (this.deps.crc32c === null) return null;
    const known = this.checksums.get(number) ?? crc32cText(await this.deps.crc32c(number));
    this.checksums.set(number, known);
    return known;
  }
}
