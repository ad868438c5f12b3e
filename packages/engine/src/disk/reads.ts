/**
 * Answers the reads of one torrent: from the write cache, the read cache, and the files, in this order.
 *
 * A read whose blocks are all in memory is answered at the end of the turn; `take` gives one block at once, which is what a
 * seed's hot path asks first. A read that is not waits for the *loads* of the windows it lies in: one gathered read per
 * file span. A load is extended to the end of its window when the reader comes in order, so that the readers behind find
 * their blocks.
 *
 * Invariants: a read holds every slot it has found until it is answered; it is answered once. Slots lent to a load come back
 * at its completion, even if the torrent was dropped meanwhile.
 * Limits: a read has at most 64 blocks; `MAX_QUEUED` reads wait for memory, past that they fail with EBUSY.
 */

import { assert } from '../base/assert.ts';
import type { IoFault } from '../base/errors.ts';
import { BLOCK_BYTES, type SlotPool } from '../base/slot-pool.ts';
import { type Io, Job } from './io.ts';
import { NO_FILE, type Places } from './part-file.ts';
import { ABSENT, LOADING, type ReadCache, WINDOW_BLOCKS, Window, type WindowOwner } from './read-cache.ts';
import type { WriteCache } from './write-cache.ts';

/** Far above what the upload queues of unchoked peers ask of a disk at once. */
const MAX_QUEUED = 4096;
/** How often reads that wait for memory look again, when nothing of their own ends. */
const RETRY_MS = 10;
/** Readings kept for reuse: as many as a busy turn has. */
const MAX_SPARE = 256;
const NOTHING = new Int32Array(0);
const GONE: IoFault = { code: 'EUNCLAIMED', message: 'the piece is not here any more' };

export interface ReadSink {
  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void;
  onWork(): void;
}

/** A read that is not answered yet. */
class Reading {
  job = 0;
  piece = 0;
  first = 0;
  count = 0;
  /** Blocks not found yet. */
  missingCount = 0;
  answered = false;
  fault: IoFault | null = null;
  readonly slots: Int32Array = new Int32Array(WINDOW_BLOCKS);
}

export class Reads implements WindowOwner {
  /** Asked first; set by the owner once there is one. */
  writes: WriteCache | null = null;
  readonly #io: Io;
  readonly #places: Places;
  readonly #cache: ReadCache;
  readonly #slots: SlotPool;
  readonly #sink: ReadSink;
  readonly #windows: Map<number, LoadingWindow> = new Map();
  readonly #windowsPerPiece: number;
  /** Answered at the end of the turn; oldest first. */
  #answers: Reading[] = [];
  /** Wait for memory or for the end of a fence; oldest first. */
  #queue: Reading[] = [];
  #spare: Reading[] = [];
  /** Loads of nothing but pad bytes, which no completion will come for. */
  #zeroLoads: Load[] = [];
  #lastNow = 0;

  constructor(io: Io, places: Places, cache: ReadCache, sink: ReadSink) {
    this.#io = io;
    this.#places = places;
    this.#cache = cache;
    this.#slots = cache.slots;
    this.#sink = sink;
    this.#windowsPerPiece = Math.ceil(places.meta.pieceLength / (BLOCK_BYTES * WINDOW_BLOCKS));
  }

  /** The slot of a block in memory, with a hold for the caller, or -1. The piece is readable. */
  take(piece: number, block: number): number {
    const slot = this.#slotOf(piece, block);
    if (slot < 0) return -1;
    this.#slots.retain(slot);
    return slot;
  }

  read(job: number, piece: number, first: number, count: number): void {
    assert(count > 0 && count <= WINDOW_BLOCKS, 'a read of a wrong length');
    const reading = this.#spare.pop() ?? new Reading();
    reading.job = job;
    reading.piece = piece;
    reading.first = first;
    reading.count = count;
    reading.missingCount = count;
    reading.answered = false;
    reading.fault = null;
    reading.slots.fill(-1, 0, count);
    this.#serve(reading);
  }

  /** Answers with a fault, at the end of the turn. */
  refuse(job: number, fault: IoFault): void {
    const reading = new Reading();
    reading.job = job;
    this.#fail(reading, fault);
  }

  /** Drops what is cached of a piece. Loads under way end, and what they bring is dropped. */
  forget(piece: number): void {
    for (let w = 0; w < this.#windowsPerPiece; w++) {
      const window = this.#windows.get(piece * this.#windowsPerPiece + w);
      if (window === undefined) continue;
      for (const load of window.loads) {
        for (const reading of load.waiting) if (!reading.answered) this.#fail(reading, GONE);
      }
      if (window.loadingCount === 0) this.#cache.drop(window);
      else this.#windows.delete(window.key);
    }
  }

  /** Drops everything; reads not answered are forgotten, their slots given back. */
  clear(): void {
    for (const window of [...this.#windows.values()]) {
      for (const load of window.loads) for (const reading of load.waiting) this.#abandon(reading);
      if (window.loadingCount === 0) this.#cache.drop(window);
    }
    this.#windows.clear();
    for (const reading of this.#answers) this.#abandon(reading);
    for (const reading of this.#queue) this.#abandon(reading);
    this.#answers = [];
    this.#queue = [];
  }

  /** Gives the answers that are ready, and tries again what waited. */
  tick(now: number): void {
    this.#lastNow = now;
    if (this.#zeroLoads.length > 0) {
      const ended = this.#zeroLoads;
      this.#zeroLoads = [];
      for (const load of ended) load.onIo(null, 0);
    }
    this.resume();
    while (this.#answers.length > 0) {
      const ready = this.#answers;
      this.#answers = [];
      for (let i = 0; i < ready.length; i++) this.#answer(ready[i]!);
    }
  }

  nextAt(): number {
    if (this.#answers.length > 0 || this.#zeroLoads.length > 0) return this.#lastNow;
    return this.#queue.length > 0 && !this.#io.held ? this.#lastNow + RETRY_MS : Number.POSITIVE_INFINITY;
  }

  /** Tries the reads that wait for memory, in order. */
  resume(): void {
    while (this.#queue.length > 0 && !this.#io.held) {
      const reading = this.#queue[0]!;
      this.#collect(reading);
      if (reading.missingCount > 0 && !this.#start(reading)) return;
      this.#queue.shift();
      if (reading.missingCount === 0) this.#ready(reading);
    }
  }

  onEvicted(window: Window): void {
    if (this.#windows.get(window.key) === window) this.#windows.delete(window.key);
  }

  // ------------------------------------------------------------------------------------------------------------- loads

  /** A load has ended: hands its blocks to the window and to those who wait. */
  loaded(load: Load): void {
    const { window, fault, slots, first } = load;
    const live = this.#windows.get(window.key) === window;
    window.loads.splice(window.loads.indexOf(load), 1);
    window.loadingCount -= slots.length;
    if (fault === null) window.heldCount += slots.length;
    else this.#cache.usedCount -= slots.length;
    for (let i = 0; i < slots.length; i++) {
      window.slots[first + i] = fault === null ? slots[i]! : ABSENT;
      if (fault !== null) this.#slots.release(slots[i]!);
    }
    const waiting = load.waiting;
    for (let i = 0; i < waiting.length; i++) {
      const reading = waiting[i]!;
      if (reading.answered) continue;
      if (fault !== null) {
        this.#fail(reading, fault);
        continue;
      }
      this.#hand(reading, load);
      if (reading.missingCount === 0) this.#answer(reading);
    }
    if (!live) {
      if (window.loadingCount === 0) this.#cache.drop(window);
    } else if (window.heldCount + window.loadingCount === 0) this.#cache.drop(window);
    this.resume();
  }

  /** Gives a reading the blocks of a load that it misses. */
  #hand(reading: Reading, load: Load): void {
    const from = Math.max(reading.first, load.firstBlock);
    const to = Math.min(reading.first + reading.count, load.firstBlock + load.slots.length);
    for (let block = from; block < to; block++) {
      if (reading.slots[block - reading.first]! >= 0) continue;
      const slot = load.slots[block - load.firstBlock]!;
      this.#slots.retain(slot);
      load.window.usedCount++;
      reading.slots[block - reading.first] = slot;
      reading.missingCount--;
    }
  }

  #serve(reading: Reading): void {
    this.#collect(reading);
    if (reading.missingCount === 0) return this.#ready(reading);
    if (this.#queue.length === 0 && !this.#io.held && this.#start(reading)) return;
    if (this.#queue.length >= MAX_QUEUED) {
      return this.#fail(reading, { code: 'EBUSY', message: 'too many reads wait for memory' });
    }
    this.#queue.push(reading);
    this.#sink.onWork();
  }

  #ready(reading: Reading): void {
    this.#answers.push(reading);
    this.#sink.onWork();
  }

  /** Holds what is in memory. */
  #collect(reading: Reading): void {
    for (let i = 0; i < reading.count; i++) {
      if (reading.slots[i]! >= 0) continue;
      const slot = this.#slotOf(reading.piece, reading.first + i);
      if (slot < 0) continue;
      this.#slots.retain(slot);
      reading.slots[i] = slot;
      reading.missingCount--;
    }
  }

  /** Starts the loads a reading needs and makes it wait for them. false: no memory. */
  #start(reading: Reading): boolean {
    const { piece, first, count } = reading;
    let need = 0;
    for (let i = 0; i < count; i++) {
      if (reading.slots[i]! < 0 && this.#stateOf(piece, first + i) === ABSENT) need++;
    }
    if (need > 0 && !this.#cache.reserve(need)) return false;
    let block = first;
    while (block < first + count) {
      if (reading.slots[block - first]! >= 0) {
        block++;
        continue;
      }
      const window = this.#windowFor(piece, block);
      const at = block % WINDOW_BLOCKS;
      if (window.slots[at] === LOADING) {
        const load = window.loadOf(at);
        if (load.waiting[load.waiting.length - 1] !== reading) load.waiting.push(reading);
        block++;
        continue;
      }
      let end = at + 1;
      const most = Math.min(window.slots.length, at + first + count - block);
      while (end < most && window.slots[end] === ABSENT && reading.slots[block - first + end - at]! < 0) end++;
      const needed = end - at;
      if (end === most) end = this.#extend(window, piece, block, at, end);
      const load = this.#load(window, piece, at, end - at);
      load.waiting.push(reading);
      block += needed;
    }
    return true;
  }

  /** Where the load [at, end) of a window should end, if the reader seems to go on. */
  #extend(window: LoadingWindow, piece: number, block: number, at: number, end: number): number {
    const inOrder = at === 0 || window.slots[at - 1] !== ABSENT;
    if (!inOrder) return end;
    const most = Math.min(window.slots.length, at + this.#cache.ahead);
    let to = end;
    const { writes } = this;
    while (to < most && window.slots[to] === ABSENT) {
      if (writes !== null && writes.slotOf(piece, block + to - at) >= 0) break;
      to++;
    }
    return end + this.#cache.spare(Math.max(0, to - end), end - at);
  }

  #load(window: LoadingWindow, piece: number, at: number, count: number): Load {
    const slots = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      slots[i] = this.#slots.take();
      assert(slots[i]! >= 0, 'a load without memory');
    }
    window.slots.fill(LOADING, at, at + count);
    window.loadingCount += count;
    this.#cache.usedCount += count;
    const firstBlock = (window.key % this.#windowsPerPiece) * WINDOW_BLOCKS + at;
    const load = new Load(this, window, at, firstBlock, slots);
    window.loads.push(load);
    const begin = firstBlock * BLOCK_BYTES;
    const bytes = Math.min((firstBlock + count) * BLOCK_BYTES, this.#places.layout.pieceSize(piece)) - begin;
    this.#issue(load, this.#places.find(piece, begin, bytes));
    return load;
  }

  #issue(load: Load, places: ReturnType<Places['find']>): void {
    let at = 0;
    let issued = 0;
    for (let i = 0; i < places.length; i++) if (places[i]!.file !== NO_FILE) issued++;
    load.partCount = Math.max(1, issued);
    for (let i = 0; i < places.length; i++) {
      const place = places[i]!;
      const end = at + place.length;
      const views: Uint8Array[] = [];
      while (at < end) {
        const n = Math.floor(at / BLOCK_BYTES);
        const inBlock = at - n * BLOCK_BYTES;
        const length = Math.min(BLOCK_BYTES - inBlock, end - at);
        const slot = load.slots[n]!;
        if (place.file === NO_FILE) this.#slots.zero(slot, inBlock, length);
        else {
          const payload = this.#slots.payload(slot);
          views.push(length === BLOCK_BYTES ? payload : payload.subarray(inBlock, inBlock + length));
        }
        at += length;
      }
      if (place.file !== NO_FILE) this.#io.read(load, this.#places.ref(place.file), place.offset, views);
    }
    if (issued > 0) return;
    this.#zeroLoads.push(load);
    this.#sink.onWork();
  }

  // ----------------------------------------------------------------------------------------------------------- answers

  #answer(reading: Reading): void {
    if (reading.fault !== null) return this.#sink.onRead(reading.job, reading.fault, NOTHING, 0);
    if (reading.answered) return;
    reading.answered = true;
    this.#sink.onRead(reading.job, null, reading.slots, reading.count);
    if (this.#spare.length < MAX_SPARE) this.#spare.push(reading);
  }

  #fail(reading: Reading, fault: IoFault): void {
    this.#abandon(reading);
    reading.fault = fault;
    this.#ready(reading);
  }

  /** Ends a reading without an answer; it is not used again, since loads may still know it. */
  #abandon(reading: Reading): void {
    if (reading.answered) return;
    reading.answered = true;
    for (let i = 0; i < reading.count; i++) if (reading.slots[i]! >= 0) this.#slots.release(reading.slots[i]!);
    reading.count = 0;
  }

  // ----------------------------------------------------------------------------------------------------------- windows

  /** The slot of a block in memory, or -1; counts as a use. */
  #slotOf(piece: number, block: number): number {
    if (this.writes !== null) {
      const slot = this.writes.slotOf(piece, block);
      if (slot >= 0) return slot;
    }
    const window = this.#windows.get(piece * this.#windowsPerPiece + Math.floor(block / WINDOW_BLOCKS));
    if (window === undefined) return -1;
    const slot = window.slots[block % WINDOW_BLOCKS]!;
    if (slot < 0) return -1;
    window.usedCount++;
    this.#cache.touch(window);
    return slot;
  }

  #stateOf(piece: number, block: number): number {
    const window = this.#windows.get(piece * this.#windowsPerPiece + Math.floor(block / WINDOW_BLOCKS));
    return window === undefined ? ABSENT : window.slots[block % WINDOW_BLOCKS]!;
  }

  #windowFor(piece: number, block: number): LoadingWindow {
    const w = Math.floor(block / WINDOW_BLOCKS);
    const key = piece * this.#windowsPerPiece + w;
    let window = this.#windows.get(key);
    if (window !== undefined) return window;
    const blockCount = this.#places.layout.blockCount(piece) - w * WINDOW_BLOCKS;
    window = new LoadingWindow(this, key, Math.min(WINDOW_BLOCKS, blockCount));
    this.#windows.set(key, window);
    this.#cache.add(window);
    return window;
  }
}

class LoadingWindow extends Window {
  readonly loads: Load[] = [];

  loadOf(at: number): Load {
    for (let i = 0; i < this.loads.length; i++) {
      const load = this.loads[i]!;
      if (at >= load.first && at < load.first + load.slots.length) return load;
    }
    assert(false, 'a block that is loading without a load');
  }
}

/** One run of blocks being read into a window. */
class Load extends Job {
  readonly window: LoadingWindow;
  /** The run's first block in the window, and in the piece. */
  readonly first: number;
  readonly firstBlock: number;
  readonly slots: Int32Array;
  readonly waiting: Reading[] = [];
  /** Reads of files still under way. */
  partCount = 0;
  fault: IoFault | null = null;
  readonly #reads: Reads;

  constructor(reads: Reads, window: LoadingWindow, first: number, firstBlock: number, slots: Int32Array) {
    super();
    this.#reads = reads;
    this.window = window;
    this.first = first;
    this.firstBlock = firstBlock;
    this.slots = slots;
  }

  override onIo(fault: IoFault | null, _bytes: number): void {
    this.fault ??= fault;
    this.partCount--;
    if (this.partCount === 0) this.#reads.loaded(this);
  }
}
