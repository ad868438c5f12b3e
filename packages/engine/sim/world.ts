/**
 * The simulated world: one seed, one clock, one heap of events, and the machines, disks and torrents in it. It pops an
 * event, sets the clock, delivers it, and runs the turns this caused until no process asks for another.
 *
 * Invariant: everything that happens is a function of the seed and of the calls made on it; `digest()` mixes in every
 * delivery, so two runs of one seed give one digest. Times are multiples of 1/1024 ms, so that adding a process's own
 * clock offset is exact.
 */

import { assert } from '../src/base/assert.ts';
import { Rng } from '../src/base/random.ts';
import { EventQueue, type EventTarget } from './event-queue.ts';
import { SimNet } from './net.ts';
import { type NodeOptions, SimNode } from './node.ts';
import { SimTorrent, type SimTorrentSpec } from './torrent.ts';
import { SimWeb } from './web.ts';

export interface WorldOptions {
  /** Everything follows from it. */
  readonly seed: number;
  /** Overwrites borrowed bytes once they are given back, to find who kept them. Costs a fill per delivery. */
  readonly poison?: boolean;
  /** A turn that was asked for runs after so many milliseconds, so that inputs meet in one turn. Default 0. */
  readonly turnMs?: number;
}

/** Runs one turn of a process. */
export interface Turner {
  turn(): void;
}

/** A process that asks for more turns than this at one instant never comes to rest. */
const MAX_TURNS_AT_ONCE = 100_000;
/** Events at one instant: far above what 1,000 machines that start together cause. */
const MAX_EVENTS_AT_ONCE = 300_000;
/** 2026-01-01, for the wall clock. */
const WALL_START = 1_767_225_600_000;

export class World {
  readonly seed: number;
  readonly turnMs: number;
  readonly rng: Rng;
  readonly queue: EventQueue = new EventQueue();
  readonly net: SimNet;
  readonly web: SimWeb;
  readonly nodes: SimNode[] = [];
  readonly torrents: SimTorrent[] = [];
  /** Milliseconds since the world began. */
  now = 0;
  /** Events delivered, turns run. */
  eventCount = 0;
  turnCount = 0;
  readonly #seedWords: Uint32Array;
  #mixA = 0x12345678;
  #mixB = 0x9abcdef1 | 0;
  readonly #due: Turner[] = [];
  #settling = false;
  #eventsNow = 0;
  readonly #calls: Map<number, () => void> = new Map();
  readonly #caller: EventTarget;
  #nextCall = 0;

  constructor(options: WorldOptions) {
    this.seed = options.seed;
    this.turnMs = options.turnMs ?? 0;
    this.#seedWords = Uint32Array.from([
      options.seed >>> 0,
      Math.floor(options.seed / 4294967296) >>> 0,
      0x51ab1e,
      0x5e3d,
    ]);
    this.rng = this.fork('world');
    this.net = new SimNet(this, options.poison ?? false);
    this.web = new SimWeb(this);
    this.#caller = {
      onEvent: (_kind: number, arg: number): void => {
        const call = this.#calls.get(arg)!;
        this.#calls.delete(arg);
        call();
      },
    };
  }

  /** A generator of its own for each part, so that more draws in one do not change another. */
  fork(label: string): Rng {
    const words = this.#seedWords.slice();
    let mix = 0x811c9dc5;
    for (let i = 0; i < label.length; i++) mix = Math.imul(mix ^ label.charCodeAt(i), 0x01000193);
    words[2]! ^= mix;
    const rng = new Rng(words);
    // neighbouring seeds start alike: let them drift apart
    for (let i = 0; i < 16; i++) rng.u32();
    return rng;
  }

  addNode(options: NodeOptions = {}): SimNode {
    const node = new SimNode(this, this.nodes.length, options);
    this.nodes.push(node);
    return node;
  }

  makeTorrent(spec: SimTorrentSpec = {}): SimTorrent {
    const torrent = new SimTorrent(this.torrents.length + 1, spec);
    this.torrents.push(torrent);
    return torrent;
  }

  wall(): number {
    return WALL_START + Math.floor(this.now);
  }

  // ---- events

  after(ms: number, target: EventTarget, kind: number, arg: number): void {
    this.atTime(this.now + ms, target, kind, arg);
  }

  atTime(ms: number, target: EventTarget, kind: number, arg: number): void {
    const at = Math.ceil(ms * 1024) / 1024;
    this.queue.push(Math.max(at, this.now), target, kind, arg);
  }

  /** Calls `fn` once, after `ms`. */
  call(ms: number, fn: () => void): void {
    const id = this.#nextCall++;
    this.#calls.set(id, fn);
    this.after(ms, this.#caller, 0, id);
  }

  /** Asks for a turn of a process at this instant. */
  turnDue(turner: Turner): void {
    this.#due.push(turner);
  }

  /** One event and the turns it causes. False: nothing is left to happen. */
  step(): boolean {
    this.settle();
    if (!this.queue.pop()) return false;
    assert(this.queue.at >= this.now, 'time runs backwards');
    if (this.queue.at > this.now) this.#eventsNow = 0;
    assert(++this.#eventsNow < MAX_EVENTS_AT_ONCE, 'time stands still: something asks to be woken again and again');
    this.now = this.queue.at;
    this.eventCount++;
    this.queue.target!.onEvent(this.queue.kind, this.queue.arg);
    this.settle();
    return true;
  }

  /** Runs the turns asked for until none is. */
  settle(): void {
    if (this.#settling) return;
    this.#settling = true;
    try {
      for (let i = 0; i < this.#due.length; i++) {
        assert(i < MAX_TURNS_AT_ONCE, 'a process does not come to rest');
        this.turnCount++;
        this.#due[i]!.turn();
      }
    } finally {
      this.#due.length = 0;
      this.#settling = false;
    }
  }

  /** Lets `ms` pass. */
  run(ms: number): void {
    this.runUntil(() => false, ms);
  }

  /** Runs until `done` holds, or `limitMs` have passed. Returns whether it holds. */
  runUntil(done: () => boolean, limitMs: number): boolean {
    const end = this.now + limitMs;
    this.settle();
    while (!done()) {
      if (this.queue.nextAt() > end) {
        this.now = Math.max(this.now, Math.floor(end * 1024) / 1024);
        return done();
      }
      this.step();
    }
    return true;
  }

  // ---- digest

  mix(what: number, a: number, b: number): void {
    this.#mixA = Math.imul(this.#mixA ^ Math.imul(what, 0x9e3779b1) ^ a, 0x85ebca6b) ^ (this.#mixA >>> 13);
    this.#mixB = Math.imul(this.#mixB ^ b ^ (this.now * 1024), 0xc2b2ae35) ^ (this.#mixB >>> 15);
  }

  /** The first and last bytes: headers and tags are there. */
  mixBytes(bytes: Uint8Array, length: number): void {
    let word = length;
    const head = Math.min(length, 48);
    for (let i = 0; i < head; i++) word = Math.imul(word ^ bytes[i]!, 0x01000193);
    for (let i = Math.max(head, length - 16); i < length; i++) word = Math.imul(word ^ bytes[i]!, 0x01000193);
    this.#mixA = Math.imul(this.#mixA ^ word, 0x85ebca6b);
  }

  /** 16 hex digits over all that was delivered so far. */
  digest(): string {
    const a = (this.#mixA >>> 0).toString(16).padStart(8, '0');
    return a + (this.#mixB >>> 0).toString(16).padStart(8, '0');
  }
}
