/**
 * Owns which pieces we have, want and are at, how many peers have each, and the order in which they are fetched.
 *
 * A piece is *missing* when it is wanted (priority > 0) and not had, and *pickable* when it is missing and no partial of
 * it is open. Pickable pieces lie in buckets by (priority, availability), in random order inside a bucket, so that every
 * change is one removal and one insertion, both O(1):
 *
 *   tiers[7] -> levels 0, 1, 2, ...      a level's bucket: [piece, piece, piece | room]
 *   tiers[6] -> ...                      position[piece] is its place in its bucket
 *
 * The buckets are a cache of (state, availability): they are built at the first pick that needs them and thrown away
 * when a bitfield changes much at once, so a torrent that never picks holds only the small arrays.
 *
 * Peers that join with everything are one number, `seedCount`; the availability array counts the others. Invariant: the
 * peers that have a piece = seedCount + its entry, and seedCount <= the number of peers that have everything. So level 0
 * holds nothing for a peer that lacks a piece.
 *
 * Order of a pick: urgent windows, then priority, then (sequential) lowest index or (else) rarest, random among equals;
 * random while we have fewer than 4 pieces (BEP 3 practice: something to trade soon). A scan that finds too much the
 * peer lacks gives up exact order and takes the rarest of some pieces that it has, found from a random place.
 *
 * Limits: 65,535 peers; memory 9.25 bytes a piece, and 4 to 8 more while it picks.
 */

import { assert } from '../base/assert.ts';
import type { Bitfield } from '../base/bitfield.ts';
import type { Rng } from '../base/random.ts';

export const DEFAULT_PRIORITY = 4;
export const MAX_PRIORITY = 7;

const PRIORITY = 7;
const HAVE = 8;
const OPEN = 16;
/** Availability beyond this is all the same to us. */
const MAX_LEVEL = 127;
/** Pieces looked at in exact order before the scan goes over to sampling: some 1 us. */
const SCAN_LIMIT = 512;
/** Pieces of which a sampling scan takes the rarest. */
const SAMPLES = 16;
/** libtorrent's initial_picker_threshold. */
const RANDOM_FIRST = 4;
/** Shared, so that a picker that never picks is small. */
const NOTHING = new Int32Array(0);
/** Tries to hit a piece that the peer has at random before rarest-first is used. */
const RANDOM_TRIES = 8;

const BIT_COUNT = new Uint8Array(256);
for (let i = 1; i < 256; i++) BIT_COUNT[i] = (i & 1) + BIT_COUNT[i >> 1]!;

class Bucket {
  items: Int32Array = new Int32Array(4);
  count = 0;
}

export class Picker {
  readonly pieceCount: number;
  /** Wanted and not had. */
  wantedLeft: number;
  /** Wanted, not had, no partial open: when 0, every wanted block is on its way. */
  pickableCount: number;
  haveCount = 0;
  /** Changes when a piece became pickable: a peer for whom `pick` found nothing need not be tried before. */
  epoch = 0;

  private readonly rng: Rng;
  private seedCount = 0;
  private readonly others: Uint16Array;
  /** Bits 0-2 priority, then HAVE, OPEN. */
  private readonly state: Uint8Array;
  /** Bits, most significant first, as in a bitfield. */
  private readonly missing: Uint8Array;
  private readonly pickable: Uint8Array;
  /** Pickable pieces of each priority. */
  private readonly tierCount: Int32Array = new Int32Array(MAX_PRIORITY + 1);
  /** No pickable piece of that priority lies before it. */
  private readonly cursor: Int32Array = new Int32Array(MAX_PRIORITY + 1);
  private tiers: Bucket[][] = [];
  private position: Int32Array = NOTHING;
  /** The buckets say nothing; build them before use. */
  private stale = true;
  private urgent: Int32Array = NOTHING;

  constructor(pieceCount: number, rng: Rng) {
    assert(pieceCount >= 1, 'a picker without pieces');
    this.pieceCount = pieceCount;
    this.rng = rng;
    this.others = new Uint16Array(pieceCount);
    this.state = new Uint8Array(pieceCount).fill(DEFAULT_PRIORITY);
    this.missing = new Uint8Array((pieceCount + 7) >> 3).fill(255);
    if ((pieceCount & 7) !== 0) this.missing[this.missing.length - 1] = (0xff00 >> (pieceCount & 7)) & 255;
    this.pickable = this.missing.slice();
    this.wantedLeft = pieceCount;
    this.pickableCount = pieceCount;
    this.tierCount[DEFAULT_PRIORITY] = pieceCount;
  }

  // ------------------------------------------------------------------------------------------------- what peers have

  peerJoined(has: Bitfield): void {
    if (has.isFull) {
      this.seedCount++;
      return;
    }
    if (has.count > 64 && has.count * 2 > this.pickableCount) this.stale = true;
    this.countAll(has, 1);
  }

  /** `has` as it stands now, with all `gained` and `lost` since it joined. */
  peerLeft(has: Bitfield): void {
    if (has.isFull && this.seedCount > 0) {
      // it may have become full piece by piece, and another be the one that was counted so: the sums are the same
      this.seedCount--;
      return;
    }
    if (has.count > 64 && has.count * 2 > this.pickableCount) this.stale = true;
    this.countAll(has, -1);
  }

  /** A peer's `have`, once per peer and piece. */
  gained(piece: number): void {
    this.addOther(piece, 1);
  }

  /** A peer's lt_donthave (BEP 54) of a piece that it had. */
  lost(piece: number): void {
    // the peer may be one of those that are one number: from now on it counts piece by piece
    if (this.seedCount > 0) {
      this.seedCount--;
      this.stale = true;
      for (let i = 0; i < this.pieceCount; i++) this.others[i]! += 1;
    }
    this.addOther(piece, -1);
  }

  /** How many peers have it. */
  availability(piece: number): number {
    return this.seedCount + this.others[piece]!;
  }

  // ------------------------------------------------------------------------------------------------------ our state

  /** 0: not wanted; 1 to 7, 4 at birth. */
  setPriority(piece: number, priority: number): void {
    assert(priority >= 0 && priority <= MAX_PRIORITY, 'a priority is 0 .. 7');
    this.change(piece, (this.state[piece]! & ~PRIORITY) | priority);
  }

  priority(piece: number): number {
    return this.state[piece]! & PRIORITY;
  }

  /** A partial of it is open: it is not picked any more. */
  open(piece: number): void {
    this.change(piece, this.state[piece]! | OPEN);
  }

  /** Its partial is gone without success. */
  reopen(piece: number): void {
    this.change(piece, this.state[piece]! & ~OPEN);
  }

  /** Verified; its partial is gone. */
  have(piece: number): void {
    this.change(piece, (this.state[piece]! | HAVE) & ~OPEN);
  }

  /** Lost again: the file changed or went away. */
  unhave(piece: number): void {
    this.change(piece, this.state[piece]! & ~HAVE);
  }

  has(piece: number): boolean {
    return (this.state[piece]! & HAVE) !== 0;
  }

  /** Wanted and not had. */
  isMissing(piece: number): boolean {
    return (this.missing[piece >> 3]! & (128 >> (piece & 7))) !== 0;
  }

  isOpen(piece: number): boolean {
    return (this.state[piece]! & OPEN) !== 0;
  }

  /** A reader waits for first..last: they come before everything else. last < first: it does so no more. */
  setUrgent(first: number, last: number, reader = 0): void {
    if (this.urgent.length <= reader * 2) {
      if (last < first) return;
      const grown = new Int32Array(reader * 2 + 2).fill(-1);
      for (let i = 0; i < grown.length; i += 2) grown[i] = 0;
      grown.set(this.urgent);
      this.urgent = grown;
    }
    this.urgent[reader * 2] = Math.max(0, first);
    this.urgent[reader * 2 + 1] = Math.min(last, this.pieceCount - 1);
  }

  // -------------------------------------------------------------------------------------------------------- questions

  /** Whether the peer has anything that is missing. */
  isInteresting(has: Bitfield): boolean {
    const { missing } = this;
    const { bytes } = has;
    for (let i = 0; i < missing.length; i++) if ((missing[i]! & bytes[i]!) !== 0) return true;
    return false;
  }

  /** How many missing pieces the peer has. Keep it by `isMissing` on have, `have` and priorities, not by asking again. */
  countWanted(has: Bitfield): number {
    if (has.isFull) return this.wantedLeft;
    const { missing } = this;
    const { bytes } = has;
    let count = 0;
    for (let i = 0; i < missing.length; i++) {
      count += BIT_COUNT[missing[i]! & bytes[i]!]!;
    }
    return count;
  }

  /** The best pickable piece that a joined peer has, or -1. The caller opens it. */
  pick(has: Bitfield, sequential: boolean): number {
    if (this.pickableCount === 0 || has.isEmpty) return -1;
    for (let i = 0; i < this.urgent.length; i += 2) {
      const piece = this.firstIn(has, this.urgent[i]!, this.urgent[i + 1]!, 0);
      if (piece >= 0) return piece;
    }
    for (let tier = MAX_PRIORITY; tier > 0; tier--) {
      if (this.tierCount[tier] === 0) continue;
      const piece = sequential ? this.pickLowest(tier, has) : this.pickRarest(tier, has);
      if (piece >= 0) return piece;
    }
    return -1;
  }

  /** The same among the pieces listed only (allowed fast, BEP 6; suggested). */
  pickFrom(list: ArrayLike<number>, has: Bitfield): number {
    let best = -1;
    for (let i = 0; i < list.length; i++) {
      const piece = list[i]!;
      if (piece >= this.pieceCount || !this.isPickable(piece) || !has.get(piece)) continue;
      if (best === -1 || this.isBetter(piece, best)) best = piece;
    }
    return best;
  }

  // ---------------------------------------------------------------------------------------------------------- picking

  private pickRarest(tier: number, has: Bitfield): number {
    if (this.stale) this.build();
    if (this.haveCount < RANDOM_FIRST) {
      const piece = this.pickRandom(tier, has);
      if (piece >= 0) return piece;
    }
    const levels = this.tiers[tier]!;
    const bits = has.bytes;
    let budget = SCAN_LIMIT;
    for (let level = has.isFull ? 0 : 1; level < levels.length; level++) {
      const { items, count } = levels[level]!;
      const end = Math.min(count, budget);
      for (let i = 0; i < end; i++) {
        const piece = items[i]!;
        if ((bits[piece >> 3]! & (128 >> (piece & 7))) !== 0) return piece;
      }
      if (end < count) return this.pickSampled(tier, has);
      budget -= end;
    }
    return -1;
  }

  private pickRandom(tier: number, has: Bitfield): number {
    const levels = this.tiers[tier]!;
    const from = has.isFull ? 0 : 1;
    const total = this.tierCount[tier]! - (from === 1 && levels.length > 0 ? levels[0]!.count : 0);
    for (let tries = total > 0 ? RANDOM_TRIES : 0; tries > 0; tries--) {
      let at = this.rng.below(total);
      let level = from;
      while (at >= levels[level]!.count) at -= levels[level++]!.count;
      const piece = levels[level]!.items[at]!;
      if (has.get(piece)) return piece;
    }
    return -1;
  }

  /** The rarest of the first pieces found from a random place on. */
  private pickSampled(tier: number, has: Bitfield): number {
    const { pickable } = this;
    const bits = has.bytes;
    const length = pickable.length;
    let best = -1;
    let samples = SAMPLES;
    let i = this.rng.below(length);
    for (let looked = 0; looked < length; looked++) {
      let both = pickable[i]! & bits[i]!;
      while (both !== 0) {
        const bit = Math.clz32(both) - 24;
        both &= ~(128 >> bit);
        const piece = (i << 3) | bit;
        if ((this.state[piece]! & PRIORITY) !== tier) continue;
        if (best === -1 || this.others[piece]! < this.others[best]!) best = piece;
        if (--samples === 0) return best;
      }
      if (++i === length) i = 0;
    }
    return best;
  }

  private pickLowest(tier: number, has: Bitfield): number {
    const { pickable, cursor } = this;
    if (this.tierCount[tier]! <= SCAN_LIMIT && this.pieceCount > SCAN_LIMIT * 8) {
      // few pieces in a large torrent (first and last of every file): look at them instead of at everything
      if (this.stale) this.build();
      let lowest = -1;
      for (const { items, count } of this.tiers[tier]!) {
        for (let i = 0; i < count; i++) {
          const piece = items[i]!;
          if ((lowest === -1 || piece < lowest) && has.get(piece)) lowest = piece;
        }
      }
      return lowest;
    }
    let i = cursor[tier]!;
    while (i < this.pieceCount) {
      if ((i & 7) === 0 && pickable[i >> 3] === 0) i += 8;
      else if (this.isPickable(i) && (this.state[i]! & PRIORITY) === tier) break;
      else i++;
    }
    cursor[tier] = i;
    return this.firstIn(has, i, this.pieceCount - 1, tier);
  }

  /** The first pickable piece of first..last that the peer has; tier 0: of any priority. */
  private firstIn(has: Bitfield, first: number, last: number, tier: number): number {
    if (last < first) return -1;
    const { pickable } = this;
    const bits = has.bytes;
    const lastByte = last >> 3;
    let mask = 255 >> (first & 7);
    for (let i = first >> 3; i <= lastByte; i++) {
      let both = pickable[i]! & bits[i]! & mask;
      mask = 255;
      while (both !== 0) {
        const bit = Math.clz32(both) - 24;
        both &= ~(128 >> bit);
        const piece = (i << 3) | bit;
        if (piece > last) return -1;
        if (tier === 0 || (this.state[piece]! & PRIORITY) === tier) return piece;
      }
    }
    return -1;
  }

  private isPickable(piece: number): boolean {
    return (this.pickable[piece >> 3]! & (128 >> (piece & 7))) !== 0;
  }

  private isBetter(a: number, b: number): boolean {
    const byPriority = (this.state[a]! & PRIORITY) - (this.state[b]! & PRIORITY);
    return byPriority > 0 || (byPriority === 0 && this.others[a]! < this.others[b]!);
  }

  // ---------------------------------------------------------------------------------------------------------- keeping

  private change(piece: number, next: number): void {
    const before = this.state[piece]!;
    if (before === next) return;
    const wasPickable = (before & PRIORITY) !== 0 && (before & (HAVE | OPEN)) === 0;
    const wasMissing = (before & PRIORITY) !== 0 && (before & HAVE) === 0;
    const pickable = (next & PRIORITY) !== 0 && (next & (HAVE | OPEN)) === 0;
    const missing = (next & PRIORITY) !== 0 && (next & HAVE) === 0;
    const byte = piece >> 3;
    const bit = 128 >> (piece & 7);
    if (wasPickable) {
      if (!this.stale) this.remove(piece);
      this.tierCount[before & PRIORITY]! -= 1;
      this.pickableCount--;
      this.pickable[byte]! &= ~bit;
    }
    if (wasMissing && !missing) {
      this.wantedLeft--;
      this.missing[byte]! &= ~bit;
    } else if (!wasMissing && missing) {
      this.wantedLeft++;
      this.missing[byte]! |= bit;
    }
    this.haveCount += ((next & HAVE) - (before & HAVE)) / HAVE;
    this.state[piece] = next;
    if (!pickable) return;
    const tier = next & PRIORITY;
    this.tierCount[tier]! += 1;
    this.pickableCount++;
    this.pickable[byte]! |= bit;
    if (piece < this.cursor[tier]!) this.cursor[tier] = piece;
    if (!wasPickable) this.epoch++;
    if (!this.stale) this.insert(piece);
  }

  private countAll(has: Bitfield, by: 1 | -1): void {
    const { bytes } = has;
    for (let i = 0; i < bytes.length; i++) {
      for (let rest = bytes[i]!; rest !== 0; ) {
        const bit = Math.clz32(rest) - 24;
        rest &= ~(128 >> bit);
        this.addOther((i << 3) | bit, by);
      }
    }
  }

  private addOther(piece: number, by: 1 | -1): void {
    const count = this.others[piece]!;
    assert(by === 1 ? count < 65535 : count > 0, 'availability out of range');
    const moves = !this.stale && this.isPickable(piece) && (by === 1 ? count < MAX_LEVEL : count <= MAX_LEVEL);
    if (moves) this.remove(piece);
    this.others[piece] = count + by;
    if (moves) this.insert(piece);
  }

  private bucketOf(piece: number): Bucket {
    const levels = this.tiers[this.state[piece]! & PRIORITY]!;
    const level = Math.min(this.others[piece]!, MAX_LEVEL);
    while (levels.length <= level) levels.push(new Bucket());
    return levels[level]!;
  }

  /** Into a random place of its bucket, whose former content goes to the end. */
  private insert(piece: number): void {
    const bucket = this.bucketOf(piece);
    if (bucket.count === bucket.items.length) resize(bucket, bucket.count * 2);
    const { items } = bucket;
    // not `below`, whose two divisions would be most of the cost; the bias is under 1 in 2,000
    const at = Math.floor(this.rng.u32() * ((bucket.count + 1) / 0x100000000));
    // at the end nothing moves: what lies there is left over, and its piece may be elsewhere
    if (at < bucket.count) {
      const moved = items[at]!;
      items[bucket.count] = moved;
      this.position[moved] = bucket.count;
    }
    items[at] = piece;
    this.position[piece] = at;
    bucket.count++;
  }

  private remove(piece: number): void {
    const bucket = this.bucketOf(piece);
    const { items } = bucket;
    const at = this.position[piece]!;
    const moved = items[--bucket.count]!;
    items[at] = moved;
    this.position[moved] = at;
    if (items.length > 64 && bucket.count * 4 < items.length) resize(bucket, items.length >> 1);
  }

  private build(): void {
    if (this.position.length === 0) this.position = new Int32Array(this.pieceCount);
    for (let tier = this.tiers.length; tier <= MAX_PRIORITY; tier++) this.tiers.push([]);
    const { pickable, tiers } = this;
    for (const levels of tiers) for (const bucket of levels) bucket.count = 0;
    this.stale = false;
    for (let i = 0; i < pickable.length; i++) {
      for (let rest = pickable[i]!; rest !== 0; ) {
        const bit = Math.clz32(rest) - 24;
        rest &= ~(128 >> bit);
        this.insert((i << 3) | bit);
      }
    }
    // levels that emptied give their memory back
    for (const levels of tiers) {
      for (const bucket of levels) {
        if (bucket.items.length > 64 && bucket.count * 4 < bucket.items.length) resize(bucket, bucket.count * 2 + 4);
      }
    }
  }
}

function resize(bucket: Bucket, length: number): void {
  const items = new Int32Array(length);
  items.set(bucket.items.subarray(0, bucket.count));
  bucket.items = items;
}
