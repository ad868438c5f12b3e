/**
 * With whom a session does not speak: addresses of a block list, and single ones that were banned for a time and a reason.
 * One object for all torrents; the host asks it too, so that what is blocked is neither reached nor heard by anything.
 *
 * Limits: 4,096 bans, the oldest making way.
 */

import { formatIp, parseIp, plainIp } from '../base/ip.ts';
import type { IpRanges } from '../base/ip-ranges.ts';
import type { AddressFilter } from '../base/ports.ts';

export interface Ban {
  readonly ip: string;
  readonly reason: string;
  /** Monotonic ms. */
  readonly sinceMs: number;
  readonly untilMs: number;
}

export const BAN_MS = 3_600_000;
const MAX_BANS = 4096;

export class AddressRules implements AddressFilter {
  /** Called after something more is blocked. */
  onBlocked: (() => void) | null = null;
  readonly #turn: { readonly now: number };
  /** By canonical text, the oldest first. */
  readonly #bans = new Map<string, Ban>();
  #ranges: IpRanges | null = null;

  /** `turn`: the session's time. */
  constructor(turn: { readonly now: number }) {
    this.#turn = turn;
  }

  /** `ip`: canonical text, or 4 or 16 bytes. */
  blocks(ip: string | Uint8Array): boolean {
    if (this.#bans.size > 0 && this.#isBanned(typeof ip === 'string' ? ip : formatIp(ip))) return true;
    if (this.#ranges === null) return false;
    const bytes = typeof ip === 'string' ? parseIp(ip) : plainIp(ip);
    return bytes !== null && this.#ranges.has(bytes);
  }

  /** Nothing at all is blocked. */
  get isEmpty(): boolean {
    return this.#bans.size === 0 && this.#ranges === null;
  }

  /** Replaces the block list. */
  setRanges(ranges: IpRanges | null): void {
    this.#ranges = ranges !== null && ranges.count > 0 ? ranges : null;
    if (this.#ranges !== null) this.onBlocked?.();
  }

  get rangeCount(): number {
    return this.#ranges?.count ?? 0;
  }

  /** False: that is no address. */
  ban(ip: string, reason: string, forMs: number = BAN_MS): boolean {
    const bytes = parseIp(ip);
    if (bytes === null) return false;
    const { now } = this.#turn;
    const text = formatIp(bytes);
    this.#bans.delete(text);
    this.#bans.set(text, { ip: text, reason, sinceMs: now, untilMs: now + forMs });
    if (this.#bans.size > MAX_BANS) for (const oldest of this.#bans.keys()) if (this.#bans.delete(oldest)) break;
    this.onBlocked?.();
    return true;
  }

  /** False: it was not banned. */
  unban(ip: string): boolean {
    const bytes = parseIp(ip);
    return bytes !== null && this.#bans.delete(formatIp(bytes));
  }

  bans(): Ban[] {
    return [...this.#bans.values()].filter(({ untilMs }) => untilMs > this.#turn.now);
  }

  #isBanned(text: string): boolean {
    const ban = this.#bans.get(text);
    if (ban === undefined) return false;
    if (this.#turn.now < ban.untilMs) return true;
    this.#bans.delete(text);
    return false;
  }
}
