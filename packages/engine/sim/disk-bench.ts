/**
 * One torrent's Disk on a simulated machine, for tests: plays the swarm's part and checks every answer against what the
 * torrent holds. A claim that is not true, wrong bytes and a lost slot are assertion failures here.
 */

import { assert } from '../src/base/assert.ts';
import type { Bitfield } from '../src/base/bitfield.ts';
import { equal, toHex } from '../src/base/bytes.ts';
import type { IoFault } from '../src/base/errors.ts';
import { type FileRef, type Files, HashKind } from '../src/base/ports.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { Layout } from '../src/codec/layout.ts';
import { parseTorrent } from '../src/codec/metainfo.ts';
import { Disk, type DiskSink } from '../src/disk/disk.ts';
import { ReadCache } from '../src/disk/read-cache.ts';
import { decodeRecord, encodeRecord, makeRecord, type RecordExtras, type ResumeRecord } from '../src/disk/resume.ts';
import type { SimNode, SimPorts } from './node.ts';
import type { SimTorrent } from './torrent.ts';
import { World } from './world.ts';

export const ROOT = '/d';
const EXTRAS: RecordExtras = { options: new Uint8Array(0), torrent: null, bootId: 'b', clean: false };

/** One torrent's Disk on a simulated machine; checks every answer against what the torrent holds. */
export class Bench implements DiskSink {
  readonly world: World;
  readonly node: SimNode;
  readonly ports: SimPorts;
  readonly torrent: SimTorrent;
  readonly disk: Disk;
  readonly cache: ReadCache;
  readonly writes: { path: string; views: number; bytes: number }[] = [];
  readonly reads: { path: string; views: number; bytes: number }[] = [];
  readonly flushed: number[] = [];
  readonly faults: string[] = [];
  readonly readFaults: string[] = [];
  readonly checked: Map<number, boolean> = new Map();
  readonly moved: (string | null)[] = [];
  readonly digests: Map<number, string | null> = new Map();
  /** Pieces told to the disk as verified. */
  readonly verified: Set<number> = new Set();
  restored: Bitfield | null = null;
  toHash = -1;
  checkDone = 0;
  answered = 0;
  rooms = 0;
  onDigest: ((job: number, good: boolean) => void) | null = null;
  readonly #asked = new Map<number, { piece: number; first: number; count: number }>();
  #nextJob = 1;

  constructor(world: World, node: SimNode, torrent: SimTorrent, quota: number = 16, root: string = ROOT) {
    this.world = world;
    this.node = node;
    this.ports = node.boot();
    this.torrent = torrent;
    const { files, hasher, slots, loop, clock } = this.ports;
    const meta = parseTorrent(torrent.bytes);
    this.cache = new ReadCache(slots, quota);
    this.disk = new Disk({
      meta,
      layout: new Layout(meta),
      folder: root,
      files: this.#spy(files),
      hasher,
      slots,
      sink: this,
      readCache: this.cache,
      partFileName: '.parts',
    });
    loop.run = () => {
      this.disk.tick(clock.now());
      loop.wakeAt(this.disk.nextAt());
    };
  }

  onWork(): void {
    this.ports.loop.soon();
  }

  onFlushed(piece: number): void {
    assert(this.verified.has(piece), 'flushed, but not verified');
    assert(this.isOnDisk(piece), 'flushed, but not on disk');
    this.flushed.push(piece);
  }

  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void {
    const { piece, first, count: wanted } = this.#asked.get(job)!;
    assert(this.#asked.delete(job), 'a read answered twice');
    this.answered++;
    if (fault !== null) {
      this.readFaults.push(fault.code);
      return;
    }
    assert(count === wanted, 'a read answered in part');
    for (let i = 0; i < count; i++) {
      this.expectBlock(slots[i]!, piece, first + i);
      this.ports.slots.release(slots[i]!);
    }
  }

  onStoreHash(job: number, fault: IoFault | null, digest: Uint8Array): void {
    const piece = this.torrent.pieceOf(toHex(digest));
    this.digests.set(job, fault?.code ?? null);
    this.onDigest?.(job, piece >= 0);
  }

  onStoreFault(fault: IoFault): void {
    this.faults.push(fault.code);
  }

  onRoom(): void {
    this.rooms++;
  }

  onRestored(claimed: Bitfield, toHash: number): void {
    this.restored = claimed.clone();
    this.toHash = toHash;
  }

  onChecked(piece: number, good: boolean): void {
    this.checked.set(piece, good);
    assert(good === this.isOnDisk(piece), 'a piece judged wrong');
  }

  onCheckDone(): void {
    this.checkDone++;
  }

  onPartsMoved(_file: number, fault: IoFault | null): void {
    this.moved.push(fault?.code ?? null);
  }

  expectBlock(slot: number, piece: number, block: number): void {
    const { torrent } = this;
    const size = torrent.blockSize(piece, block);
    const right = torrent.read(piece * torrent.pieceLength + block * BLOCK_BYTES, size);
    const stands = this.ports.slots.payload(slot).subarray(0, size);
    assert(equal(stands, right), `wrong bytes in block ${block} of piece ${piece}`);
  }

  /** Whether the bytes of a piece are where the disk says they are, and right. */
  isOnDisk(piece: number): boolean {
    const size = this.torrent.pieceSize(piece);
    const stands = new Uint8Array(size);
    let at = 0;
    for (const place of this.disk.places.find(piece, 0, size)) {
      if (place.file >= -1) {
        const ref = this.disk.places.ref(place.file);
        const file = this.node.disk.files.get(this.node.disk.keyOf(ref));
        if (file === undefined || file.size < place.offset + place.length) return false;
        file.read(place.offset, stands.subarray(at, at + place.length));
      }
      at += place.length;
    }
    return equal(stands, this.torrent.read(piece * this.torrent.pieceLength, size));
  }

  /** Slots with blocks [from, to) of a piece; `mark` other than 0: corrupt ones. */
  fill(piece: number, from: number, to: number, mark = 0): Int32Array {
    const filled = new Int32Array(to - from);
    for (let b = from; b < to; b++) {
      const slot = this.ports.slots.take();
      assert(slot >= 0, 'no slot for a block');
      this.torrent.fillBlock(this.ports.slots.payload(slot), 0, piece, b, mark);
      filled[b - from] = slot;
    }
    return filled;
  }

  put(piece: number, from: number, to: number, mark = 0): void {
    this.disk.put(piece, from, this.fill(piece, from, to, mark), 0, to - from);
  }

  /** As a piece comes from the swarm. */
  download(piece: number): void {
    this.put(piece, 0, this.torrent.blockCount(piece));
    this.verified.add(piece);
    this.disk.verified(piece);
  }

  read(piece: number, first: number, count: number): void {
    const job = this.#nextJob++;
    this.#asked.set(job, { piece, first, count });
    this.disk.read(job, piece, first, count);
  }

  hash(piece: number): number {
    const job = this.#nextJob++;
    this.disk.hash(job, HashKind.Sha1, piece);
    return job;
  }

  get unanswered(): number {
    return this.#asked.size;
  }

  settle(): void {
    this.world.run(10_000);
  }

  downloadAll(pieces: readonly number[] = this.all()): void {
    for (const piece of pieces) {
      this.download(piece);
      this.world.run(20);
    }
    this.settle();
  }

  all(): number[] {
    return Array.from({ length: this.torrent.pieceCount }, (_, i) => i);
  }

  /** All slots are free but for those the read cache knows of. */
  expectNoLeak(): void {
    assert(this.disk.pendingSlots === 0, 'blocks are still to be written');
    this.cache.trim(0);
    assert(this.cache.usedCount === 0, 'the read cache cannot be emptied');
    assert(this.ports.slots.freeCount === this.ports.slots.count, 'a slot was lost');
  }

  stop(): IoFault | null {
    let ended: IoFault | null | undefined;
    this.disk.stop((fault) => {
      ended = fault;
    });
    this.settle();
    assert(ended !== undefined, 'a stop without an end');
    return ended;
  }

  /** The record as the next run reads it. */
  record(extras: Partial<RecordExtras> = {}): ResumeRecord {
    const bytes = encodeRecord(makeRecord(this.disk, { ...EXTRAS, bootId: this.ports.state.bootId, ...extras }));
    const read = decodeRecord(bytes);
    assert(read !== null, 'a record that cannot be read');
    return read;
  }

  /** The next process on this machine. */
  again(power: boolean = false, quota: number = 16, root: string = this.disk.folder): Bench {
    this.node.crash(power);
    return new Bench(this.world, this.node, this.torrent, quota, root);
  }

  restore(record: ResumeRecord | null, mode: 'check' | 'trust' = 'check'): number[] {
    this.disk.restore(record, mode, this.ports.state.bootId);
    this.settle();
    assert(this.checkDone === 1, 'a restore without an end');
    return this.all().filter((piece) => this.restored!.get(piece));
  }

  path(file: number): string {
    return this.node.disk.keyOf(this.disk.places.ref(file));
  }

  #spy(files: Files): Files {
    const note = (list: Bench['writes'], file: FileRef, views: readonly Uint8Array[]): void => {
      let bytes = 0;
      for (const view of views) bytes += view.length;
      list.push({ path: file.path.join('/'), views: views.length, bytes });
    };
    return new Proxy(files, {
      get: (target, key: keyof Files) => {
        const method = target[key].bind(target) as (...args: unknown[]) => void;
        return (...args: unknown[]): void => {
          if (key === 'write') note(this.writes, args[1] as FileRef, args[3] as Uint8Array[]);
          if (key === 'read') note(this.reads, args[1] as FileRef, args[3] as Uint8Array[]);
          method(...args);
        };
      },
    });
  }
}

/** The piece of `odd` that is pad from end to end. */
export const ALL_PAD = 6;

/** Files of every awkward kind: unaligned, empty, tiny, with a pad, one in the middle of a piece. */
export function odd(world: World): SimTorrent {
  return world.makeTorrent({
    pieceLength: 65536,
    files: [
      { path: ['a'], length: 100_001 },
      { path: ['empty'], length: 0 },
      { path: ['tiny'], length: 1 },
      { path: ['sub', 'b'], length: 70_000 },
      { path: ['c'], length: 200_000 },
      { path: ['.pad', '1'], length: 88_750, pad: true },
      { path: ['e'], length: 300_007 },
    ],
  });
}

/** A fresh machine with this torrent to come. */
export function bench(
  torrent: (world: World) => SimTorrent,
  slots: number = 64,
  quota: number = 16,
  seed: number = 1,
): Bench {
  const world = new World({ seed });
  return new Bench(world, world.addNode({ slots }), torrent(world), quota);
}
