/**
 * Owns a rate limit: a token bucket, under a parent's (global -> torrent -> peer). What is granted is taken from all of
 * them or from none.
 *
 * Grants come in blocks: all that was wanted, or a multiple of 16 KiB, never a sliver, so that a caller that can only
 * send whole blocks wastes nothing. The bucket starts empty and holds one block and 250 ms worth. What does not fit,
 * because a turn came late or the other side stood still for a moment, is credit, which is made up for by at most 20 %
 * more: so the mean holds on a busy machine. Credit is two seconds' worth at most, which is 3.4 % of a minute, and who does
 * not ask for two seconds loses it. Whatever comes together, no second brings more than a block and 1.2 times the rate.
 *
 * Where several ask one parent and it, or what is above it, runs short, they form a queue and are served in turn; who does
 * not come back within 100 ms of being able to be served loses its place. So no child starves, whatever the order they are
 * asked in, and each gets the same: peers over uTP as much as those over TCP, who are quicker to ask.
 *
 * What was granted to be asked for may come all at once, after a peer stood still. `arrived` holds such a rush back: it
 * says how long to read no more.
 *
 * Limits: none of its own; the queue holds each child at most once.
 */

import { assert } from '../base/assert.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import { LimiterWindow } from './limiter-window.ts';

const BURST_MS = 250;
const STALE_MS = 100;
/** Longest time without a question after which what was not used is credit. */
const IDLE_MS = 2000;
const MOST_CREDIT_MS = 2000;
/** Credit that comes back, as a part of the rate. */
const CATCH_UP_SHARE = 0.2;
/** What a second may bring, in times of the rate. */
const MOST_SHARE = 1.2;
/** What is read before it can be held back: a socket's chunk. */
const CHUNK_BYTES = 65_536;
const CHUNK_SHARE = 0.1;

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
  /** The last second, where a rate limits it. */
  private granted: LimiterWindow | null = null;
  private arrivals: LimiterWindow | null = null;
  private filledMs = -1;
  /** Bytes that were not used in time. */
  private credit = 0;
  private askedMs = Number.NEGATIVE_INFINITY;
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

  /** There is a rate, here or further up. */
  get limits(): boolean {
    for (let at: Limiter | null = this; at !== null; at = at.parent) if (at.rateBps > 0) return true;
    return false;
  }

  setRate(now: number, rateBps: number): void {
    assert(rateBps >= 0, 'a rate is not negative');
    this.fill(now);
    if (this.rateBps === 0) this.tokens = 0;
    if (rateBps !== this.rateBps) {
      // what went at the old rate is no debt
      this.credit = 0;
      this.granted = null;
      this.arrivals = null;
    }
    this.rateBps = rateBps;
    this.tokens = Math.min(this.tokens, this.capacity());
  }

  /** Takes up to `wanted` bytes: all of it, or whole blocks, or 0 for now. */
  grant(now: number, wanted: number): number {
    if (wanted <= 0) return 0;
    const unit = Math.min(wanted, BLOCK_BYTES);
    let least = wanted;
    let child: Limiter | null = null;
    // how many share what is open, each in his turn, down to who asks
    let parts = 1;
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      at.fill(now);
      at.askedMs = now;
      if (child !== null) {
        // others are first, and stand for this one further up too
        if (!at.isTurnOf(child, now)) return this.wait(unit, at);
        parts *= at.waiterCount + (child.waiting ? 0 : 1);
      }
      if (at.rateBps > 0) {
        const open = at.open(now);
        if (open < unit) {
          at.leaveQueues();
          return this.wait(unit, at);
        }
        least = Math.min(least, Math.max(unit, open / parts));
      }
      child = at;
    }
    const granted = least === wanted ? wanted : least - (least % BLOCK_BYTES);
    child = null;
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      if (at.rateBps > 0) at.take(now, granted);
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

  /** Of those who wait here, who can be served now: a caller with several sees to it that he asks. */
  nextInLine(now: number): Limiter | null {
    const first = this.headWaiter;
    return first !== null && this.canServe(now, first.needed) ? first : null;
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
      if (at.rateBps > 0) waitMs = Math.max(waitMs, at.holdBack(now, bytes));
    }
    return waitMs;
  }

  /** Gives back what was granted and not used. */
  refund(now: number, bytes: number): void {
    for (let at: Limiter | null = this; at !== null; at = at.parent) {
      at.fill(now);
      if (at.rateBps > 0) {
        at.tokens = Math.min(at.tokens + bytes, at.capacity());
        at.granted?.add(now, -bytes);
      }
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
    if (now <= this.filledMs) return;
    if (this.filledMs >= 0 && this.rateBps > 0) this.add((this.rateBps * (now - this.filledMs)) / 1000, now);
    this.filledMs = now;
  }

  private add(bytes: number, now: number): void {
    const room = this.capacity() - this.tokens;
    if (now - this.askedMs > IDLE_MS) this.credit = 0;
    else if (bytes > room) this.credit = Math.min(this.credit + bytes - room, (this.rateBps * MOST_CREDIT_MS) / 1000);
    else if (this.credit > 0) {
      const back = Math.min(this.credit, bytes * CATCH_UP_SHARE, room - bytes);
      this.credit -= back;
      this.tokens += back;
    }
    this.tokens += Math.min(bytes, room);
  }

  /** Refused by `top`: keeps its place in the queues up to there. */
  private wait(unit: number, top: Limiter): number {
    let child: Limiter | null = null;
    for (let at: Limiter | null = this; at !== null && child !== top; at = at.parent) {
      at.needed = unit;
      if (child !== null) at.enqueue(child);
      child = at;
    }
    return 0;
  }

  /** Held back here: it holds up nobody further up. */
  private leaveQueues(): void {
    for (let at: Limiter = this; at.parent !== null; at = at.parent) if (at.waiting) at.parent.dequeue(at);
  }

  private isTurnOf(child: Limiter, now: number): boolean {
    if (this.headWaiter !== null && this.headWaiter !== child) this.dropStale(now, child);
    return this.headWaiter === null || this.headWaiter === child;
  }

  /** What the bucket and the last second let through. */
  private open(now: number): number {
    if (this.granted === null) return this.tokens;
    this.granted.move(now);
    return Math.min(this.tokens, this.mostPerSecond() - this.granted.sum);
  }

  private mostPerSecond(): number {
    return BLOCK_BYTES + this.rateBps * MOST_SHARE;
  }

  private take(now: number, bytes: number): void {
    this.tokens -= bytes;
    this.granted ??= new LimiterWindow();
    this.granted.add(now, bytes);
  }

  /** How long to read no more, ms: by a bucket, so that a rush does not come in one lump, and by the last second. */
  private holdBack(now: number, bytes: number): number {
    this.arrivals ??= new LimiterWindow();
    const rate = (this.rateBps * MOST_SHARE) / 1000;
    const most = Math.max(CHUNK_BYTES, this.rateBps * (BURST_MS / 1000));
    this.rush = Math.min(this.rush + rate * Math.max(0, now - this.arrivedMs), most) - bytes;
    this.arrivedMs = now;
    this.arrivals.add(now, bytes);
    const bucketMs = -this.rush / rate;
    const left = 1000 * rate - Math.min(CHUNK_BYTES, this.rateBps * CHUNK_SHARE);
    return this.arrivals.sum <= left ? bucketMs : Math.max(bucketMs, this.arrivals.fallsTo(left) - now);
  }

  private readyAt(now: number, need: number): number {
    if (this.rateBps === 0) return now;
    if (this.tokens >= need) {
      return this.open(now) >= need ? now : Math.max(now, this.granted!.fallsTo(this.mostPerSecond() - need));
    }
    // the next whole millisecond: a lack too small to be told from `now` would be asked for again and again
    return Math.floor(now + ((need - this.tokens) * 1000) / this.rateBps) + 1;
  }

  /** Heads that could have been served and did not come make way, and all behind them that do not ask any more. */
  private dropStale(now: number, asking: Limiter): void {
    const head = this.headWaiter!;
    if (!this.canServe(now, head.needed)) {
      this.headReadyMs = -1;
      return;
    }
    if (this.headReadyMs < 0) this.headReadyMs = now;
    if (now - this.headReadyMs < STALE_MS) return;
    this.dequeue(head);
    while (this.headWaiter !== null && this.headWaiter !== asking && now - this.headWaiter.askedMs >= STALE_MS) {
      this.dequeue(this.headWaiter);
    }
  }

  /** Neither this nor a limit further up stands in the way. */
  private canServe(now: number, bytes: number): boolean {
    for (let at: Limiter = this; ; at = at.parent) {
      at.fill(now);
      if (at.rateBps > 0 && at.open(now) < bytes) return false;
      if (at.parent === null) return true;
      const first = at.parent.headWaiter;
      if (first !== null && first !== at) return false;
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
