/**
 * Owns a rate limit: a token bucket, under a parent's (global -> torrent -> peer). What is granted is taken from all of
 * them or from none.
 *
 * Grants come in blocks: all that was wanted, or a multiple of 16 KiB, never a sliver, so that a caller that can only
 * send whole blocks wastes nothing. The bucket starts empty and holds one block and 250 ms worth, so the most that leaves
 * at once is that, and any 10 s at an accurate caller are within 2.5 % (at the lowest rates: within one block).
 *
 * Where several ask one parent and it runs short, they form a queue and are served in turn; who does not come back within
 * 100 ms of being able to be served loses its place. So no child starves, whatever the order they are asked in.
 *
 * What was granted to be asked for may come all at once, after a peer stood still. `arrived` holds such a rush back: it
 * says how long to read no more.
 *
 * Limits: none of its own; the queue holds each child at most once.
 */

import { assert } from '../base/assert.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';

const BURST_MS = 250;
const STALE_MS = 100;
/** A rush: beyond so much at once, and this share more than the rate; a second of it stays below 1.25 times the rate. */
const RUSH_MS = 150;
const LEAST_RUSH_BYTES = 65_536;
const RUSH_SHARE = 1.05;

export class Limiter {
  /** Bytes per second; 0: no limit. */
  rateBps: number;
  /** Granted so far. */
  total = 0;

  private parent: Limiter | null;
  private tokens = 0;
  /** What may still arrive now without being a rush, as of `arrivedMs`. */
  private rush = 0;
  private arrivedMs = Number.NEGATIVE_INFINITY;
  private filledMs = -1;
  /** What was asked for last in vain. */
  private needed: number = BLOCK_BYTES;

  /** The queue at this limiter: children that were refused, oldest first. */
  private headWaiter: Limiter | null = null;
  private tailWaiter: Limiter | null = null;
  private waiterCount = 0;
  /** Since when the head could have been served; -1: not yet. */
  private headReadyMs = -1;
  /** Place in the parent's queue. */
  private waiting = false;
  private nextWaiter: Limiter | null = null;

  constructor(rateBps: number, parent: Limiter | null) {
    assert(rateBps >= 0, 'a rate is not negative');
    this.rateBps = rateBps;
    this.parent = parent;
  }

  setRate(now: number, rateBps: number): void {
    assert(rateBps >= 0, 'a rate is not negative');
    this.fill(now);
    if (this.rateBps === 0) this.tokens = 0;
    this.rateBps = rateBps;
    this.tokens = Math.min(this.tokens, this.capacity());
  }

  /** Takes up to `wanted` bytes: all of it, or whole blocks, or 0 for now. */
  grant(now: number, wanted: number): number {
    if (wanted <= 0) return 0;
    const unit = Math.min(wanted, BLOCK_BYTES);
    let least = wanted;
    let refused = false;
    let child: Limiter | null = null;
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      at.fill(now);
      const open = refused ? 0 : at.openTo(now, child, unit);
      if (refused) {
        // held back further down: it holds up nobody here
        if (child?.waiting) at.dequeue(child);
      } else if (open < unit) {
        refused = true;
        if (child !== null) at.enqueue(child);
      } else if (open < least) least = open;
      child = at;
    }
    if (refused) {
      this.needed = unit;
      return 0;
    }
    const granted = least === wanted ? wanted : least - (least % BLOCK_BYTES);
    child = null;
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      if (at.rateBps > 0) at.tokens -= granted;
      at.total += granted;
      if (child?.waiting) at.dequeue(child);
      child = at;
    }
    return granted;
  }

  /** When it is worth asking again after a refusal. `now` or before: at once. */
  nextAt(now: number): number {
    let at = now;
    let child: Limiter | null = null;
    for (let limiter: Limiter | null = this; limiter !== null; limiter = limiter.parent) {
      limiter.fill(now);
      const ready = limiter.readyAt(now, this.needed);
      // behind others: not before the next of them was served
      const turn =
        child === null || limiter.headWaiter === null || limiter.headWaiter === child
          ? ready
          : Math.max(ready, now + 1);
      if (turn > at) at = turn;
      child = limiter;
    }
    return at;
  }

  /** Counts bytes that went without asking (protocol overhead, data that came unasked): the next grants wait for them. */
  spend(now: number, bytes: number): void {
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      at.fill(now);
      // a debt of more than a second would punish the innocent
      if (at.rateBps > 0) at.tokens = Math.max(at.tokens - bytes, -at.rateBps);
      at.total += bytes;
    }
  }

  /** Takes in bytes that came; how many milliseconds nothing more should be read, 0 as a rule. */
  arrived(now: number, bytes: number): number {
    let waitMs = 0;
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      if (at.rateBps === 0) continue;
      const rate = (at.rateBps * RUSH_SHARE) / 1000;
      const most = Math.max(LEAST_RUSH_BYTES, at.rateBps * (RUSH_MS / 1000));
      at.rush = Math.min(at.rush + rate * Math.max(0, now - at.arrivedMs), most) - bytes;
      at.arrivedMs = now;
      waitMs = Math.max(waitMs, -at.rush / rate);
    }
    return waitMs;
  }

  /** Gives back what was granted and not used. */
  refund(now: number, bytes: number): void {
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      at.fill(now);
      if (at.rateBps > 0) at.tokens = Math.min(at.tokens + bytes, at.capacity());
      at.total -= bytes;
    }
  }

  /** Stands under another limit from now on. */
  setParent(parent: Limiter | null): void {
    this.close();
    this.parent = parent;
  }

  /** Not asked any more: leaves the parent's queue. */
  close(): void {
    if (this.waiting && this.parent !== null) this.parent.dequeue(this);
  }

  // ---------------------------------------------------------------------------------------------------------- private

  private capacity(): number {
    return BLOCK_BYTES + (this.rateBps * BURST_MS) / 1000;
  }

  private fill(now: number): void {
    if (this.filledMs >= 0 && now > this.filledMs && this.rateBps > 0) {
      this.tokens = Math.min(this.tokens + (this.rateBps * (now - this.filledMs)) / 1000, this.capacity());
    }
    if (now > this.filledMs) this.filledMs = now;
  }

  /** How much `child` (null: this limiter's own caller) could take now. */
  private openTo(now: number, child: Limiter | null, unit: number): number {
    if (this.rateBps === 0) return Number.POSITIVE_INFINITY;
    if (child === null) return this.tokens;
    this.dropStale(now, child);
    if (this.headWaiter !== null && this.headWaiter !== child) return 0;
    const sharers = this.waiterCount + (child.waiting ? 0 : 1);
    return sharers === 1 ? this.tokens : Math.min(this.tokens, Math.max(unit, this.tokens / sharers));
  }

  private readyAt(now: number, need: number): number {
    if (this.rateBps === 0 || this.tokens >= need) return now;
    // the next whole millisecond: a lack too small to be told from `now` would be asked for again and again
    return Math.floor(now + ((need - this.tokens) * 1000) / this.rateBps) + 1;
  }

  /** Heads that could have been served and did not come make way. */
  private dropStale(now: number, asking: Limiter): void {
    while (this.headWaiter !== null && this.headWaiter !== asking) {
      if (this.tokens < this.headWaiter.needed) {
        this.headReadyMs = -1;
        return;
      }
      if (this.headReadyMs < 0) this.headReadyMs = now;
      if (now - this.headReadyMs < STALE_MS) return;
      this.dequeue(this.headWaiter);
    }
  }

  private enqueue(child: Limiter): void {
    if (child.waiting) return;
    child.waiting = true;
    child.nextWaiter = null;
    if (this.tailWaiter === null) this.headWaiter = child;
    else this.tailWaiter.nextWaiter = child;
    this.tailWaiter = child;
    this.waiterCount++;
  }

  private dequeue(child: Limiter): void {
    let before: Limiter | null = null;
    for (let at = this.headWaiter; at !== null && at !== child; at = at.nextWaiter) before = at;
    if (before === null) {
      this.headWaiter = child.nextWaiter;
      this.headReadyMs = -1;
    } else before.nextWaiter = child.nextWaiter;
    if (this.tailWaiter === child) this.tailWaiter = before;
    child.waiting = false;
    child.nextWaiter = null;
    this.waiterCount--;
  }
}
