/**
 * Banned addresses of a torrent, as canonical text, each for a time. Limit: MAX_BANS, the oldest making way.
 */

const MAX_BANS = 4096;

export class AddressBans {
  /** Address -> end of the ban, ms; the oldest first. Null: none yet. */
  #ends: Map<string, number> | null = null;

  /** Those that are over and were not asked for are counted too. */
  get count(): number {
    return this.#ends === null ? 0 : this.#ends.size;
  }

  add(ip: string, untilMs: number): void {
    this.#ends ??= new Map();
    const ends = this.#ends;
    ends.delete(ip);
    ends.set(ip, untilMs);
    if (ends.size > MAX_BANS) for (const oldest of ends.keys()) if (ends.delete(oldest)) break;
  }

  remove(ip: string): void {
    this.#ends?.delete(ip);
  }

  holds(ip: string, now: number): boolean {
    const untilMs = this.#ends?.get(ip);
    if (untilMs === undefined) return false;
    if (now < untilMs) return true;
    this.#ends!.delete(ip);
    return false;
  }

  list(now: number): { readonly ip: string; readonly untilMs: number }[] {
    const list: { ip: string; untilMs: number }[] = [];
    for (const [ip, untilMs] of this.#ends ?? []) if (untilMs > now) list.push({ ip, untilMs });
    return list;
  }
}
