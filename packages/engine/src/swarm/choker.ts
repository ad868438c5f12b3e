/**
 * Decides whom we upload to. Pure: it looks at records, names the changes, and the caller carries them out.
 *
 * Rounds are 10 s apart (BEP 3).
 *   Leeching: most slots go to the peers that send to us fastest and are not snubbing; max(1, slots / 5) of them, and those
 *     that no sender fills, are optimistic: a random interested peer (a new one with thrice the odds, BEP 3) for 30 s.
 *   Seeding: in turn. A peer keeps its slot until it got 20 pieces' worth or held it for 1 min, and only then, and only
 *     if somebody waits, makes way for who waits longest. Nobody gains by being fast, or by coming back under a new name,
 *     since a turn is waited for from the end of the last one or from joining (Adamsky: theft from seeds).
 *
 * Invariants: a peer that is unchoked stays so for 10 s (no fibrillation), so a peer changes at most twice in that time;
 * a free slot is given at once to who becomes interested; a peer that only uploads (BEP 21) or is not interested has no
 * slot; ties are broken by id, chance comes from the generator, so equal seeds decide equally.
 *
 * Limits: slots, plus what is still in its 10 s when slots are taken away.
 */

import type { Rng } from '../base/random.ts';

/** What the choker knows of a peer; kept by the caller (a peer may itself be its record). */
export interface ChokeRecord {
  /** Breaks ties; no two are equal. */
  readonly id: number;
  /** It wants something of us. */
  readonly interested: boolean;
  /** We choke it. */
  readonly choked: boolean;
  /** Payload it sends us, bytes per second. */
  readonly downRate: number;
  /** Payload we send it, bytes per second. */
  readonly upRate: number;
  /** Bytes of payload it got since it was unchoked last. */
  readonly uploadedSinceUnchoke: number;
  /** When it was unchoked last, ms; before the first time: when it joined. */
  readonly unchokedAt: number;
  /** When it was choked last, ms; before the first time: when it joined. */
  readonly waitingSince: number;
  readonly snubbed: boolean;
  readonly uploadOnly: boolean;
  /** Connected a short time ago and never served. */
  readonly isNew: boolean;
}

export const ROUND_MS = 10_000;
const DWELL_MS = 10_000;
const OPTIMISTIC_MS = 30_000;
/** libtorrent's seeding_piece_quota. */
const TURN_PIECES = 20;
const TURN_MS = 60_000;
/** BEP 3: odds of a new peer in the optimistic draw. */
const NEW_ODDS = 3;

export class Choker<R extends ChokeRecord = ChokeRecord> {
  /** Peers unchoked at a time. */
  slots: number;
  readonly #rng: Rng;
  #nextAt = 0;
  readonly #chosen = new Set<R>();
  readonly #ranked: R[] = [];
  readonly #changes: R[] = [];

  constructor(slots: number, rng: Rng) {
    this.#rng = rng;
    this.slots = slots;
  }

  /** When the next round is due. */
  nextAt(): number {
    return this.#nextAt;
  }

  /**
   * A round. Returns the records whose `choked` is to be turned over (chokes first), on an array that is reused. The
   * caller sets `unchokedAt` and `uploadedSinceUnchoke` of those that it unchokes, `waitingSince` of those that it chokes.
   */
  decide(now: number, records: readonly R[], seeding: boolean, pieceBytes: number): readonly R[] {
    this.#nextAt = now + ROUND_MS;
    this.#chosen.clear();
    if (seeding) this.#chooseInTurn(now, records, pieceBytes);
    else this.#chooseByRate(now, records);
    const changes = this.#changes;
    changes.length = 0;
    for (const record of records) {
      if (!record.choked && !this.#chosen.has(record) && !isFresh(record, now)) changes.push(record);
    }
    for (const record of records) if (record.choked && this.#chosen.has(record)) changes.push(record);
    this.#chosen.clear();
    return changes;
  }

  /** Whether a peer that just became interested is to be unchoked now: it is if a slot is free. */
  onInterested(_now: number, record: R, records: readonly R[]): boolean {
    return record.choked && isCandidate(record) && usedSlots(records) < this.slots;
  }

  /** Between rounds, when a slot came free (a peer left, or wants nothing more): whom to unchoke. Reused array. */
  fill(records: readonly R[], seeding: boolean): readonly R[] {
    const changes = this.#changes;
    changes.length = 0;
    const free = this.slots - usedSlots(records);
    if (free <= 0) return changes;
    this.#chosen.clear();
    for (const record of records) if (!record.choked && isCandidate(record)) this.#chosen.add(record);
    if (seeding) this.#chooseWaiting(records);
    else this.#chooseOptimistic(records);
    for (const record of records) if (record.choked && this.#chosen.has(record)) changes.push(record);
    this.#chosen.clear();
    return changes;
  }

  // -------------------------------------------------------------------------------------------------------- leeching

  #chooseByRate(now: number, records: readonly R[]): void {
    const optimisticSlots = Math.max(1, Math.floor(this.slots / 5));
    const ranked = this.#ranked;
    ranked.length = 0;
    for (const record of records) {
      if (isCandidate(record) && !record.snubbed && record.downRate > 0) ranked.push(record);
    }
    ranked.sort(byRate);
    const regular = Math.min(ranked.length, this.slots - optimisticSlots);
    for (let i = 0; i < regular; i++) this.#chosen.add(ranked[i]!);

    // optimistic ones that have time left; the newest first, if slots became fewer
    ranked.length = 0;
    for (const record of records) {
      if (!record.choked && isCandidate(record) && !this.#chosen.has(record)) {
        if (now - record.unchokedAt < OPTIMISTIC_MS) ranked.push(record);
      }
    }
    ranked.sort(byNewestTurn);
    for (const record of ranked) if (this.#chosen.size < this.slots || isFresh(record, now)) this.#chosen.add(record);
    this.#chooseOptimistic(records);
  }

  #chooseOptimistic(records: readonly R[]): void {
    const ranked = this.#ranked;
    ranked.length = 0;
    let odds = 0;
    for (const record of records) {
      if (!record.choked || !isCandidate(record) || this.#chosen.has(record)) continue;
      ranked.push(record);
      odds += oddsOf(record);
    }
    while (this.#chosen.size < this.slots && ranked.length > 0) {
      let drawn = this.#rng.below(odds);
      let i = 0;
      while (drawn >= oddsOf(ranked[i]!)) drawn -= oddsOf(ranked[i++]!);
      const record = ranked[i]!;
      odds -= oddsOf(record);
      ranked[i] = ranked[ranked.length - 1]!;
      ranked.pop();
      this.#chosen.add(record);
    }
    this.#keepOn(records);
  }

  // --------------------------------------------------------------------------------------------------------- seeding

  #chooseInTurn(now: number, records: readonly R[], pieceBytes: number): void {
    const ranked = this.#ranked;
    ranked.length = 0;
    for (const record of records) {
      if (record.choked || !isCandidate(record)) continue;
      const done = record.uploadedSinceUnchoke >= pieceBytes * TURN_PIECES || now - record.unchokedAt >= TURN_MS;
      if (!done || isFresh(record, now)) ranked.push(record);
    }
    ranked.sort(byNewestTurn);
    for (const record of ranked) if (this.#chosen.size < this.slots || isFresh(record, now)) this.#chosen.add(record);
    this.#chooseWaiting(records);
  }

  #chooseWaiting(records: readonly R[]): void {
    const ranked = this.#ranked;
    ranked.length = 0;
    for (const record of records) if (record.choked && isCandidate(record)) ranked.push(record);
    ranked.sort(byLongestWait);
    for (const record of ranked) if (this.#chosen.size < this.slots) this.#chosen.add(record);
    this.#keepOn(records);
  }

  /** Nobody waits: those whose time is over keep their slots, the latest first. */
  #keepOn(records: readonly R[]): void {
    if (this.#chosen.size >= this.slots) return;
    const ranked = this.#ranked;
    ranked.length = 0;
    for (const record of records) {
      if (!record.choked && isCandidate(record) && !this.#chosen.has(record)) ranked.push(record);
    }
    ranked.sort(byNewestTurn);
    for (const record of ranked) if (this.#chosen.size < this.slots) this.#chosen.add(record);
  }
}

function isCandidate(record: ChokeRecord): boolean {
  return record.interested && !record.uploadOnly;
}

function isFresh(record: ChokeRecord, now: number): boolean {
  return !record.choked && now - record.unchokedAt < DWELL_MS;
}

function usedSlots(records: readonly ChokeRecord[]): number {
  let used = 0;
  for (const record of records) if (!record.choked && isCandidate(record)) used++;
  return used;
}

function oddsOf(record: ChokeRecord): number {
  return record.isNew ? NEW_ODDS : 1;
}

function byRate(a: ChokeRecord, b: ChokeRecord): number {
  return b.downRate - a.downRate || Number(a.choked) - Number(b.choked) || b.upRate - a.upRate || a.id - b.id;
}

function byNewestTurn(a: ChokeRecord, b: ChokeRecord): number {
  return b.unchokedAt - a.unchokedAt || a.id - b.id;
}

function byLongestWait(a: ChokeRecord, b: ChokeRecord): number {
  return a.waitingSince - b.waitingSince || a.id - b.id;
}
