/**
 * The Files port of one process over the virtual disk. Operations share the disk's throughput in order and each waits
 * its latency on top; what they do happens at their end. A crash tears the writes that are under way.
 */

import { assert } from '../src/base/assert.ts';
import type { IoFault } from '../src/base/errors.ts';
import type { FileRef, FileSink, FileStat, FileStatSink, Files, HashSpan } from '../src/base/ports.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import type { SimDisk } from './disk.ts';
import type { EventTarget } from './event-queue.ts';
import type { SimFile } from './file.ts';
import type { World } from './world.ts';

interface Operation {
  readonly bytes: number;
  /** Does it, at its end, and tells the sink. */
  readonly end: () => void;
  /** What a crash leaves of it. */
  readonly torn: (() => void) | null;
}

export class SimFiles implements Files, EventTarget {
  readonly disk: SimDisk;
  readonly #world: World;
  readonly #nodeId: number;
  readonly #underWay: Map<number, Operation> = new Map();
  #next = 0;
  #busyUntil = 0;
  #alive = true;

  constructor(world: World, nodeId: number, disk: SimDisk) {
    this.#world = world;
    this.#nodeId = nodeId;
    this.disk = disk;
  }

  /** Operations not ended yet. */
  get pendingCount(): number {
    return this.#underWay.size;
  }

  read(job: number, file: FileRef, offset: number, views: readonly Uint8Array[], sink: FileSink): void {
    const targets = views.slice();
    const length = total(targets);
    const key = this.disk.keyOf(file);
    this.#begin(length, () => {
      const fault = this.#fault(key, this.disk.knobs.readFaultEvery) ?? this.readNow(key, offset, targets, length);
      this.disk.readBytes += length;
      sink.onFile(job, fault, fault === null ? length : 0);
    });
  }

  write(job: number, file: FileRef, offset: number, views: readonly Uint8Array[], sink: FileSink): void {
    const sources = views.slice();
    const length = total(sources);
    const key = this.disk.keyOf(file);
    this.#begin(
      length,
      () => {
        const fault = this.#fault(key, this.disk.knobs.writeFaultEvery) ?? this.#writeNow(key, offset, sources, length);
        sink.onFile(job, fault, fault === null ? length : 0);
      },
      () => {
        // a kill or a power cut in the middle: some of it is there
        if (this.disk.obstacle(key) === null) this.#put(key, offset, sources, this.disk.rng.below(length + 1));
      },
    );
  }

  sync(job: number, files: readonly FileRef[], sink: FileSink): void {
    const covered: { file: SimFile; size: number; writes: ReturnType<SimFile['syncBegins']> }[] = [];
    for (const ref of files) {
      const file = this.disk.files.get(this.disk.keyOf(ref));
      if (file !== undefined) covered.push({ file, size: file.size, writes: file.syncBegins() });
    }
    const first = files.length > 0 ? this.disk.keyOf(files[0]!) : '';
    this.#begin(0, () => {
      const fault = this.#fault(first, this.disk.knobs.syncFaultEvery);
      if (fault === null) for (const each of covered) each.file.synced(each.writes, each.size);
      sink.onFile(job, fault, files.length);
    });
  }

  stat(job: number, file: FileRef, sink: FileStatSink): void {
    const key = this.disk.keyOf(file);
    this.#begin(0, () => {
      const fault = this.#failing(key);
      sink.onStat(job, fault, fault === null ? this.#statNow(key) : null);
    });
  }

  allocate(job: number, file: FileRef, size: number, full: boolean, sink: FileSink): void {
    const key = this.disk.keyOf(file);
    this.#begin(full ? size : 0, () => {
      let fault = this.#failing(key) ?? this.disk.obstacle(key);
      if (fault === null) {
        const made = this.disk.make(key);
        if (full && !this.disk.hasRoom(Math.ceil(size / BLOCK_BYTES) - made.chunkCount)) fault = noRoom(key);
        else {
          made.resize(size);
          if (full) made.reserved = true;
        }
      }
      sink.onFile(job, fault, 0);
    });
  }

  link(job: number, file: FileRef, _target: readonly string[], sink: FileSink): void {
    const key = this.disk.keyOf(file);
    this.#begin(0, () => {
      const fault = this.#failing(key);
      if (fault === null) this.disk.others.set(key, 'link');
      sink.onFile(job, fault, 0);
    });
  }

  remove(job: number, files: readonly FileRef[], sink: FileSink): void {
    const keys = files.map((file) => this.disk.keyOf(file));
    this.#begin(0, () => {
      const fault = this.#failing(keys[0] ?? '');
      let removed = 0;
      if (fault === null) for (const key of keys) if (this.disk.files.delete(key)) removed++;
      sink.onFile(job, fault, removed);
    });
  }

  move(job: number, files: readonly FileRef[], newRoot: string, sink: FileSink): void {
    const keys = files.map((file) => this.disk.keyOf(file));
    this.#begin(0, () => {
      const fault = this.#failing(keys[0] ?? '');
      let moved = 0;
      if (fault === null) {
        for (let i = 0; i < keys.length; i++) {
          const found = this.disk.files.get(keys[i]!);
          if (found === undefined) continue;
          this.disk.files.delete(keys[i]!);
          this.disk.files.set(`${newRoot}/${files[i]!.path.join('/')}`, found);
          moved++;
        }
      }
      sink.onFile(job, fault, moved);
    });
  }

  copy(job: number, from: FileRef, to: FileRef, sink: FileSink): void {
    const fromKey = this.disk.keyOf(from);
    const toKey = this.disk.keyOf(to);
    this.#begin(this.disk.files.get(fromKey)?.size ?? 0, () => {
      const source = this.disk.files.get(fromKey);
      const size = source?.size ?? 0;
      let fault = this.#fault(fromKey, this.disk.knobs.readFaultEvery) ?? this.#missing(fromKey, 0);
      fault ??= this.disk.obstacle(toKey);
      if (fault === null && this.#statNow(toKey) !== null) fault = { code: 'EEXIST', message: `${toKey}: exists` };
      if (fault === null && !this.disk.hasRoom(source!.chunkCount)) fault = noRoom(toKey);
      if (fault === null) {
        const copy = this.disk.make(toKey);
        const block = new Uint8Array(BLOCK_BYTES);
        for (let at = 0; at < size; at += BLOCK_BYTES) {
          const view = block.subarray(0, Math.min(BLOCK_BYTES, size - at));
          source!.read(at, view);
          copy.write(at, view);
        }
        copy.mtimeMs = this.#world.wall();
      }
      sink.onFile(job, fault, fault === null ? size : 0);
    });
  }

  release(_files: readonly FileRef[]): void {}

  /** For the hasher: reads spans in order, hands out each stretch of at most a block. Calls `done` at the end. */
  readSpans(spans: readonly HashSpan[], bytes: number, done: (fault: IoFault | null) => void): void {
    this.#begin(bytes, () => {
      for (const span of spans) {
        if (span.file === null) continue;
        const key = this.disk.keyOf(span.file);
        const fault = this.#fault(key, this.disk.knobs.readFaultEvery) ?? this.#missing(key, span.offset + span.length);
        if (fault !== null) {
          done(fault);
          return;
        }
      }
      this.disk.readBytes += bytes;
      done(null);
    });
  }

  onEvent(_kind: number, arg: number): void {
    const operation = this.#underWay.get(arg);
    if (operation === undefined || !this.#alive) return;
    this.#underWay.delete(arg);
    this.#world.mix(4, this.#nodeId, operation.bytes);
    operation.end();
  }

  /** The process or machine is gone: nothing is told any more, writes under way are torn. */
  crash(): void {
    this.#alive = false;
    for (const operation of this.#underWay.values()) if (operation.torn !== null) operation.torn();
    this.#underWay.clear();
  }

  #begin(bytes: number, end: () => void, torn: (() => void) | null = null): void {
    assert(this.#alive, 'file work for a dead process');
    const knobs = this.disk.knobs;
    const id = this.#next++;
    this.#underWay.set(id, { bytes, end, torn });
    this.#busyUntil = Math.max(this.#busyUntil, this.#world.now) + (bytes / knobs.bytesPerSecond) * 1000;
    const waitMs = knobs.latencyMs + (knobs.jitterMs > 0 ? this.disk.rng.float() * knobs.jitterMs : 0);
    this.#world.atTime(this.#busyUntil + waitMs, this, 0, id);
  }

  readNow(key: string, offset: number, views: readonly Uint8Array[], length: number): IoFault | null {
    const fault = this.#missing(key, offset + length);
    if (fault !== null) return fault;
    const file = this.disk.files.get(key)!;
    let at = offset;
    for (const view of views) {
      file.read(at, view);
      at += view.length;
    }
    return null;
  }

  #writeNow(key: string, offset: number, views: readonly Uint8Array[], length: number): IoFault | null {
    const obstacle = this.disk.obstacle(key);
    if (obstacle !== null) return obstacle;
    const file = this.disk.files.get(key);
    const fresh = file === undefined ? Math.ceil(length / BLOCK_BYTES) : file.newChunks(offset, length);
    if (!this.disk.hasRoom(fresh)) {
      // as writev does, part of it may stand before the room ends
      this.#put(key, offset, views, Math.floor(length / 2 / BLOCK_BYTES) * BLOCK_BYTES, true);
      return noRoom(key);
    }
    this.#put(key, offset, views, length);
    this.disk.writtenBytes += length;
    return null;
  }

  #put(key: string, offset: number, views: readonly Uint8Array[], length: number, ifRoom = false): void {
    if (length === 0) return;
    const file = this.disk.make(key);
    let done = 0;
    for (const view of views) {
      const part = done + view.length <= length ? view : view.subarray(0, length - done);
      if (part.length === 0) break;
      if (ifRoom && !this.disk.hasRoom(file.newChunks(offset + done, part.length))) break;
      file.write(offset + done, part);
      if (this.disk.knobs.rotEvery > 0 && this.disk.rng.below(this.disk.knobs.rotEvery) === 0) {
        file.rot(offset + done + this.disk.rng.below(part.length));
        this.disk.rotCount++;
      }
      done += part.length;
    }
    file.mtimeMs = this.#world.wall();
  }

  #statNow(key: string): FileStat | null {
    const other = this.disk.others.get(key);
    if (other !== undefined) return { size: 0, mtimeMs: 0, inode: 0, regular: false };
    const file = this.disk.files.get(key);
    return file === undefined ? null : { size: file.size, mtimeMs: file.mtimeMs, inode: file.inode, regular: true };
  }

  #missing(key: string, end: number): IoFault | null {
    const obstacle = this.disk.obstacle(key);
    if (obstacle !== null) return obstacle;
    const file = this.disk.files.get(key);
    if (file === undefined) return { code: 'ENOENT', message: `${key}: no such file` };
    return file.size < end ? { code: 'EIO_SHORT', message: `${key}: ends early` } : null;
  }

  #fault(key: string, every: number): IoFault | null {
    const failing = this.#failing(key);
    if (failing !== null) return failing;
    return every > 0 && this.disk.rng.below(every) === 0
      ? { code: 'EIO', message: `${key}: input/output error` }
      : null;
  }

  #failing(key: string): IoFault | null {
    const code = this.disk.knobs.failing;
    return code === null ? null : { code, message: `${key}: ${code}` };
  }
}

function noRoom(key: string): IoFault {
  return { code: 'ENOSPC', message: `${key}: no space left on the disk` };
}

function total(views: readonly Uint8Array[]): number {
  let length = 0;
  for (const view of views) length += view.length;
  return length;
}
