/**
 * A machine of the world that runs one process of the engine at a time: what survives the process (address, disk,
 * records) and, between `boot` and `crash` or `shutdown`, its ports.
 */

import { assert } from '../src/base/assert.ts';
import { Bitfield } from '../src/base/bitfield.ts';
import { PlatformCrypto } from '../src/base/platform-crypto.ts';
import type { Clock, Crypto, Loop, Ports, Random } from '../src/base/ports.ts';
import type { Rng } from '../src/base/random.ts';
import { SlotPool } from '../src/base/slot-pool.ts';
import { type DiskKnobs, SimDisk } from './disk.ts';
import type { EventTarget } from './event-queue.ts';
import { SimFiles } from './files.ts';
import { type HasherOptions, SimHasher } from './hasher.ts';
import type { HostOptions, NetHost } from './host.ts';
import { ProcessNet } from './net.ts';
import { SimRecords, SimState } from './state.ts';
import { ProcessHttp } from './web.ts';
import type { Turner, World } from './world.ts';

export interface NodeOptions extends HostOptions, HasherOptions {
  /** Block memory; default 64 slots (1 MiB). */
  readonly slots?: number;
  readonly disk?: Partial<DiskKnobs>;
}

export class SimNode {
  readonly world: World;
  readonly id: number;
  readonly host: NetHost;
  readonly disk: SimDisk;
  readonly records: SimRecords = new SimRecords();
  readonly options: NodeOptions;
  /** Null while nothing runs here. */
  ports: SimPorts | null = null;
  /** Wall clock: how wrong this machine's is. */
  wallSkewMs = 0;
  bootCount = 0;
  powerCutCount = 0;
  /** Pieces whose digest this process has seen to be right, by torrent id. */
  readonly verified: Map<number, Bitfield> = new Map();

  constructor(world: World, id: number, options: NodeOptions) {
    this.world = world;
    this.id = id;
    this.options = options;
    this.host = world.net.addHost(options);
    this.disk = new SimDisk(world.fork(`disk ${id}`), options.disk ?? {});
  }

  /** Starts a process: new ports over the old disk. */
  boot(): SimPorts {
    assert(this.ports === null, 'a process runs here already');
    if (!this.host.powered) this.host.restored();
    this.verified.clear();
    this.ports = new SimPorts(this, this.bootCount++);
    return this.ports;
  }

  /** SIGKILL, or with `power` a power cut: the process is gone between two events. */
  crash(power: boolean): void {
    const ports = this.ports;
    if (ports === null) return;
    this.ports = null;
    ports.die();
    if (power) {
      this.powerCutCount++;
      this.disk.powerCut();
    }
    this.host.crash(power);
  }

  /** A digest was computed here: notes which piece it proves, if any. */
  sawDigest(hex: string): void {
    for (const torrent of this.world.torrents) {
      const pieces = torrent.piecesOf(hex);
      if (pieces.length === 0) continue;
      let seen = this.verified.get(torrent.id);
      if (seen === undefined) {
        seen = new Bitfield(torrent.pieceCount);
        this.verified.set(torrent.id, seen);
      }
      for (const piece of pieces) seen.set(piece);
    }
  }
}

export class SimPorts implements Ports {
  readonly node: SimNode;
  readonly clock: Clock;
  readonly loop: SimLoop;
  readonly random: Random;
  /** Real, and determined by its inputs. */
  readonly crypto: Crypto = new PlatformCrypto();
  readonly net: ProcessNet;
  readonly http: ProcessHttp;
  readonly files: SimFiles;
  readonly hasher: SimHasher;
  readonly state: SimState;
  readonly slots: SlotPool;

  constructor(node: SimNode, boot: number) {
    const world = node.world;
    const rng: Rng = world.fork(`process ${node.id} ${boot}`);
    // each process counts from a moment of its own, so that a mix-up of clocks shows
    const offsetMs = 1000 * rng.below(1_000_000);
    this.node = node;
    this.clock = { now: () => world.now + offsetMs, wall: () => world.wall() + node.wallSkewMs };
    this.loop = new SimLoop(world, offsetMs);
    this.random = rng;
    this.net = new ProcessNet(node.host);
    this.http = new ProcessHttp(world.web, node.host);
    const count = node.options.slots ?? 64;
    const buffer = new ArrayBuffer(SlotPool.bytesFor(0, count));
    const bytes = new Uint8Array(buffer);
    const copy = (to: number, from: number, length: number): void => {
      bytes.copyWithin(to, from, from + length);
    };
    this.slots = new SlotPool({ buffer, copy }, 0, count);
    this.files = new SimFiles(world, node.id, node.disk);
    this.hasher = new SimHasher(world, node.id, this.slots, this.files, node.options);
    this.hasher.onDigest = (hex) => node.sawDigest(hex);
    this.state = new SimState(world, node.records, `boot-${node.id}-${node.powerCutCount}`);
  }

  /** An orderly end, after which the machine may boot again. */
  close(done: () => void): void {
    this.node.world.call(0, () => {
      if (this.node.ports === this) {
        this.node.ports = null;
        this.die();
        this.node.host.crash(false);
      }
      done();
    });
  }

  die(): void {
    this.loop.die();
    this.net.alive = false;
    this.http.alive = false;
    this.files.crash();
    this.hasher.crash();
    this.state.crash(this.node.disk.rng);
  }
}

export class SimLoop implements Loop, Turner, EventTarget {
  run: (() => void) | null = null;
  turnCount = 0;
  readonly #world: World;
  readonly #offsetMs: number;
  #soon = false;
  #wakeAt = Infinity;
  /** The earliest wake-up on the heap. */
  #armedAt = Infinity;
  /** Numbers the wake-ups; only the one asked for last counts. */
  #armed = 0;
  #alive = true;

  constructor(world: World, offsetMs: number) {
    this.#world = world;
    this.#offsetMs = offsetMs;
  }

  soon(): void {
    if (this.#soon || !this.#alive) return;
    this.#soon = true;
    if (this.#world.turnMs > 0) this.#world.after(this.#world.turnMs, this, 1, 0);
    else this.#world.turnDue(this);
  }

  wakeAt(atMs: number): void {
    const at = atMs - this.#offsetMs;
    this.#wakeAt = at;
    if (at < this.#armedAt && this.#alive) {
      this.#armedAt = at;
      this.#world.atTime(at, this, 2, ++this.#armed);
    }
  }

  /** Runs the turn asked for. */
  turn(): void {
    if (!this.#alive) return;
    this.#soon = false;
    this.turnCount++;
    this.run?.();
  }

  onEvent(kind: number, arg: number): void {
    if (!this.#alive) return;
    if (kind === 1) {
      this.turn();
      return;
    }
    if (arg !== this.#armed) return;
    this.#armedAt = Infinity;
    if (this.#wakeAt > this.#world.now) {
      if (this.#wakeAt < Infinity) this.wakeAt(this.#wakeAt + this.#offsetMs);
      return;
    }
    this.#wakeAt = Infinity;
    if (!this.#soon) {
      this.#soon = true;
      this.#world.turnDue(this);
    }
  }

  die(): void {
    this.#alive = false;
    this.run = null;
  }
}
