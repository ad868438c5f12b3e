/**
 * Owns the blocks read from files and kept for other readers: one cache for all torrents of a session.
 *
 * It is kept by *window*, a stretch of up to 64 blocks (1 MiB) of one piece, since peers read pieces front to back: one
 * lookup, one read and one eviction serve a whole window. The least recently used window is evicted first.
 *
 * Invariants: a block in a window has one hold of the cache; each reader gets its own. `usedCount` is the number of slots
 * in windows, those being read into included, and stays within the quota.
 * Limits: `quota` slots. How far is read ahead adapts: windows evicted before they were used halve it, used ones let it grow.
 */

import { assert } from '../base/assert.ts';
import type { SlotPool } from '../base/slot-pool.ts';

/** Blocks a window covers, and the most that is read at once: 1 MiB. */
export const WINDOW_BLOCKS = 64;

export const ABSENT: number = -1;
export const LOADING: number = -2;

/** Whose windows these are; told when one is evicted. */
export interface WindowOwner {
  onEvicted(window: Window): void;
}

export class Window {
  readonly owner: WindowOwner;
  readonly key: number;
  /** Slot of each block, ABSENT or LOADING. */
  readonly slots: Int32Array;
  heldCount = 0;
  loadingCount = 0;
  /** Blocks handed out, the same one twice counted twice. */
  usedCount = 0;
  newer: Window | null = null;
  older: Window | null = null;

  constructor(owner: WindowOwner, key: number, blockCount: number) {
    this.owner = owner;
    this.key = key;
    this.slots = new Int32Array(blockCount).fill(ABSENT);
  }
}

export class ReadCache {
  readonly slots: SlotPool;
  /** Slots it may use. */
  quota: number;
  usedCount = 0;
  /** Blocks that a sequential read is extended to. */
  ahead: number = WINDOW_BLOCKS;
  #newest: Window | null = null;
  #oldest: Window | null = null;

  constructor(slots: SlotPool, quota: number) {
    this.slots = slots;
    this.quota = quota;
  }

  add(window: Window): void {
    window.older = this.#newest;
    if (this.#newest !== null) this.#newest.newer = window;
    else this.#oldest = window;
    this.#newest = window;
  }

  /** The window was used just now. */
  touch(window: Window): void {
    if (this.#newest === window) return;
    this.#unlink(window);
    this.add(window);
  }

  /** Makes room for `count` more slots, by eviction. false: not now. */
  reserve(count: number): boolean {
    let window = this.#oldest;
    while (window !== null && (this.usedCount + count > this.quota || this.slots.freeCount < count)) {
      const next: Window | null = window.newer;
      if (window.loadingCount === 0) {
        this.#learn(window);
        this.drop(window);
      }
      window = next;
    }
    if (this.slots.freeCount < count) return false;
    return this.usedCount + count <= this.quota || this.usedCount === 0;
  }

  /** How many slots may be filled ahead of need, at most `count`, beside `needed` ones. Evicts nothing that is in use. */
  spare(count: number, needed: number): number {
    const inQuota = this.quota - this.usedCount - needed;
    const inPool = this.slots.freeCount - needed - (this.slots.count >> 3);
    return Math.max(0, Math.min(count, inQuota, inPool));
  }

  /** Takes a window out and gives its slots back; it must not be loading. */
  drop(window: Window): void {
    assert(window.loadingCount === 0, 'drop of a window that is being read');
    this.#unlink(window);
    this.usedCount -= window.heldCount;
    for (let b = 0; b < window.slots.length; b++) if (window.slots[b]! >= 0) this.slots.release(window.slots[b]!);
    window.heldCount = 0;
    window.owner.onEvicted(window);
  }

  /** Gives back windows until at most `count` slots are used, for downloads that need the memory. */
  trim(count: number): void {
    let window = this.#oldest;
    while (window !== null && this.usedCount > count) {
      const next: Window | null = window.newer;
      if (window.loadingCount === 0) this.drop(window);
      window = next;
    }
  }

  #learn(window: Window): void {
    if (window.usedCount * 2 < window.heldCount) this.ahead = Math.max(1, this.ahead >> 1);
    else if (window.usedCount >= window.heldCount) this.ahead = Math.min(WINDOW_BLOCKS, this.ahead + 1);
  }

  #unlink(window: Window): void {
    if (window.newer !== null) window.newer.older = window.older;
    else this.#newest = window.older;
    if (window.older !== null) window.older.newer = window.newer;
    else this.#oldest = window.newer;
    window.newer = null;
    window.older = null;
  }
}
