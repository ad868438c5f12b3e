/**
 * One torrent's data on disk, as the swarm and the session see it: policy alone, all I/O goes through Files and Hasher.
 *
 * Owns *flushed* (verified and written: survives SIGKILL) and *synced* (fdatasync returned: survives a power cut).
 *
 * Invariants: nothing is claimed that is not both verified and written. Answers never come from inside a command: they come
 * with a completion, or from `tick`, which `onWork` asks for at the end of the turn.
 *
 * Limits: see the parts: write-cache, read-cache, reads, check. An idle torrent owns no table but its two bitfields.
 */

import { assert } from '../base/assert.ts';
import { Bitfield } from '../base/bitfield.ts';
import type { IoFault } from '../base/errors.ts';
import type { FileRef, Files, Hasher, HashKind, PieceStore, PieceStoreSink } from '../base/ports.ts';
import type { SlotPool } from '../base/slot-pool.ts';
import type { Layout } from '../codec/layout.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import { Check, type CheckSink } from './check.ts';
import { Fence, type Operation } from './fence.ts';
import { FileTable } from './file-table.ts';
import { Call, type IdleSink, Io } from './io.ts';
import { NO_FILE, Places } from './part-file.ts';
import type { ReadCache } from './read-cache.ts';
import { Reads } from './reads.ts';
import { makeEmptyFiles, moveFiles, moveParts, preallocate, removeFiles } from './relocate.ts';
import { restore } from './restore.ts';
import type { ResumeRecord } from './resume.ts';
import { type OldFiles, reuseFiles } from './reuse.ts';
import { StoreHashes } from './store-hashes.ts';
import { Sweep } from './sweep.ts';
import { WriteCache, type WriteSink } from './write-cache.ts';

export interface DiskSink extends PieceStoreSink {
  /** `tick` wants to be called at the end of this turn. */
  onWork(): void;
  /** `restore` knows what may be claimed now; `toHashCount` pieces are being hashed and come by `onChecked`. */
  onRestored(claimed: Bitfield, toHashCount: number): void;
  /** A piece was looked at by `check` or `restore`; good ones are claimed from now on, bad ones no longer. */
  onChecked(piece: number, good: boolean): void;
  /** The check or restore is over. */
  onCheckDone(): void;
  /** The edges of a file that became wanted are in the file now; on a fault they stay in the part file until `retry`. */
  onPartsMoved(file: number, fault: IoFault | null): void;
}

export interface DiskOptions {
  readonly meta: Metainfo;
  readonly layout: Layout;
  /** Absolute. */
  readonly folder: string;
  readonly files: Files;
  readonly hasher: Hasher;
  readonly slots: SlotPool;
  readonly sink: DiskSink;
  /** Shared by all torrents of a session. */
  readonly readCache: ReadCache;
  /** A plain file name, such as `.<hex info-hash>.parts`. */
  readonly partFileName: string;
}

type Done = (fault: IoFault | null) => void;

/** Files that a stop waits for; of more, a kill of the power would cost hashing, which waiting for each here costs always. */
const MAX_SYNC_AT_STOP = 256;
const UNSYNCED: IoFault = { code: 'EUNSYNCED', message: 'too many files to bring them all to the medium at a stop' };
/** Faults that say: what was written there is not there any more. */
const GONE_CODES: ReadonlySet<string> = new Set([
  'ENOENT',
  'ENOTDIR',
  'EISDIR',
  'ELOOP',
  'ENXIO',
  'ENOTREG',
  'EIO_SHORT',
]);
const GONE: IoFault = { code: 'EUNCLAIMED', message: 'the piece is not here any more' };

export class Disk implements PieceStore, WriteSink, CheckSink, IdleSink {
  readonly meta: Metainfo;
  readonly layout: Layout;
  readonly places: Places;
  /** What is known of the torrent's files. */
  readonly table: FileTable;
  readonly io: Io;
  /** Verified and written. Read only for others. */
  readonly flushed: Bitfield;
  /** Flushed, and on the medium. Read only for others. */
  readonly synced: Bitfield;
  readonly #slots: SlotPool;
  readonly #sink: DiskSink;
  readonly #readCache: ReadCache;
  #writes: WriteCache | null = null;
  #reads: Reads | null = null;
  #check: Check | null = null;
  /** Flushed since the last sync began. */
  #unsynced: number[] = [];
  /** A sync that lost data for all we know: no stop of this run is clean. */
  #syncFault: IoFault | null = null;
  /** Say `onFlushed` at the end of the turn. */
  #written: number[] = [];
  readonly #hashes: StoreHashes = new StoreHashes(this);
  /** Files (numbers of Places) that a read or write found removed, cut or replaced underneath. */
  readonly #suspects: Set<number> = new Set();
  readonly #fence: Fence;
  /** Files whose edges are to be moved out of the part file, and those where that failed. */
  readonly #partMoves: Set<number> = new Set();
  #partFaults: number[] = [];
  #stopping: Done | null = null;
  #state: 'open' | 'stopping' | 'stopped' = 'open';

  constructor(options: DiskOptions) {
    this.meta = options.meta;
    this.layout = options.layout;
    this.places = new Places(options.meta, options.layout, options.folder, options.partFileName);
    this.table = new FileTable(options.meta, options.layout);
    this.io = new Io(options.files, options.hasher, this);
    this.#fence = new Fence(this.io, () => this.#goOn());
    this.flushed = new Bitfield(options.layout.pieceCount);
    this.synced = new Bitfield(options.layout.pieceCount);
    this.#slots = options.slots;
    this.#sink = options.sink;
    this.#readCache = options.readCache;
  }

  get folder(): string {
    return this.places.folder;
  }

  /** The fault that keeps writes from going on, until `retry`. */
  get fault(): IoFault | null {
    return this.#writes === null ? null : this.#writes.fault;
  }

  // --------------------------------------------------------------------------------------------------------- PieceStore

  get pendingSlots(): number {
    return this.#writes === null ? 0 : this.#writes.slotCount;
  }

  put(piece: number, firstBlock: number, slots: Int32Array, from: number, count: number): void {
    if (this.#state !== 'open') {
      for (let i = from; i < from + count; i++) this.#slots.release(slots[i]!);
      return;
    }
    assert(!this.flushed.get(piece), 'put of a piece that is here');
    this.#writeCache().put(piece, firstBlock, slots, from, count);
  }

  verified(piece: number): void {
    if (this.#state !== 'open') return;
    if (!this.#writeCache().verified(piece)) return;
    this.#written.push(piece);
    this.#sink.onWork();
  }

  discard(piece: number): void {
    this.#writes?.discard(piece);
    this.#hashes.drop(piece);
  }

  /** Answered with a completion, or by `tick` at the end of the turn when all of it is in memory. */
  read(job: number, piece: number, firstBlock: number, count: number): void {
    if (this.#state !== 'open') return;
    this.#reads ??= this.#makeReads();
    if (this.flushed.get(piece) || this.#writes?.isVerified(piece) === true) {
      this.#reads.read(job, piece, firstBlock, count);
    } else this.#reads.refuse(job, GONE);
  }

  /**
   * The slot of a block that is in memory, held for the caller, or -1: then `read` it. The piece is flushed or verified.
   */
  take(piece: number, block: number): number {
    if (this.#reads !== null) return this.#reads.take(piece, block);
    if (this.#writes === null) return -1;
    const slot = this.#writes.slotOf(piece, block);
    if (slot >= 0) this.#slots.retain(slot);
    return slot;
  }

  hash(job: number, kind: HashKind, piece: number): void {
    if (this.#state !== 'open') return;
    if (!this.#hashes.hash(job, kind, piece)) this.#writes?.flushPiece(piece);
  }

  retry(): void {
    if (this.#writes !== null && this.#writes.fault !== null) {
      this.letGo();
      this.#writes.retry();
    }
    const files = this.#partFaults;
    this.#partFaults = [];
    for (const file of files) if (this.table.isWanted(file)) this.#movePart(file);
  }

  shed(keepSlots: number): readonly number[] {
    return this.#writes === null ? [] : this.#writes.shed(keepSlots);
  }

  // ----------------------------------------------------------------------------------------------------------- commands

  /** A read of this piece failed: whether the file was, it seems, removed or changed underneath. `checkSuspects` then. */
  suspect(piece: number, fault: IoFault): boolean {
    if (!GONE_CODES.has(fault.code)) return false;
    for (const place of this.places.find(piece, 0, this.layout.pieceSize(piece))) {
      if (place.file !== NO_FILE) this.#suspects.add(place.file);
    }
    return true;
  }

  /** Checks what is claimed of files that were changed underneath, if there are any. Returns whether a check began. */
  checkSuspects(): boolean {
    if (this.#suspects.size === 0 || this.#check !== null || this.#state !== 'open') return false;
    const pieces = new Set<number>();
    const claimed = (from: number, to: number): void => {
      for (let p = this.flushed.nextSet(from); p >= 0 && p <= to; p = this.flushed.nextSet(p + 1)) pieces.add(p);
    };
    for (const file of this.#suspects) {
      if (file >= 0) claimed(this.layout.firstPiece(file), this.layout.lastPiece(file));
      else
        for (const f of this.places.partedFiles())
          for (const { piece } of this.places.extents(f)) claimed(piece, piece);
    }
    this.#suspects.clear();
    // not to be read while it is in doubt: looking at a file lets whatever stands there now be opened
    for (const piece of pieces) this.forget(piece);
    this.check([...pieces].sort((a, b) => a - b));
    return true;
  }

  /** Forgets which files and folders these were: what is gone, its root too, may be made anew. */
  letGo(): void {
    this.io.files.release(this.places.madeRefs());
  }

  /** Whether it is not being stopped. */
  get isOpen(): boolean {
    return this.#state === 'open';
  }

  get checking(): boolean {
    return this.#check !== null;
  }

  /** Whether the file system can be looked at at all. Calls back later. */
  probe(done: Done): void {
    const file = this.meta.files.findIndex(({ pad, length }) => !pad && length > 0);
    if (file < 0) return this.io.sync(new Call(done), []);
    new Sweep([file], { start: (job, f) => this.io.stat(job, this.places.ref(f)), each: () => {}, done }).run();
  }

  /** Pieces that are verified and not yet written, besides those that are flushed. */
  unwritten(): readonly number[] {
    return this.inDoubt(this.layout.pieceCount);
  }

  /** Writes what is verified without waiting for neighbours; for when the torrent is complete. */
  flush(): void {
    this.#writes?.flush();
  }

  /** The piece is not what it was (a read failed): it is claimed no longer, and may be put again. */
  forget(piece: number): void {
    this.flushed.clear(piece);
    this.synced.clear(piece);
    this.#reads?.forget(piece);
  }

  /** Brings what is flushed by now to the medium. Calls `done` later; on a fault nothing more counts as synced. */
  sync(done: Done): void {
    const pieces = this.#unsynced;
    const files = this.table.takeDirty();
    this.#unsynced = [];
    const refs: FileRef[] = [];
    for (const file of files) refs.push(this.places.ref(file));
    const ended = (fault: IoFault | null): void => {
      if (fault === null) {
        for (const piece of pieces) if (this.flushed.get(piece)) this.synced.set(piece);
      } else {
        // after EIO the system may have dropped the pages, and says so only once: these never count as synced
        if (fault.code === 'EIO') this.#syncFault = fault;
        else for (const piece of pieces) this.#unsynced.push(piece);
        for (const file of files) this.table.setDirty(file);
      }
      done(fault);
    };
    this.io.sync(new Call(ended), refs);
  }

  /** Whether nothing that was put of the piece waits to be written. */
  isPutWritten(piece: number): boolean {
    return this.#writes === null || this.#writes.isPutWritten(piece);
  }

  /** Whether `sync` has anything to do. */
  get needsSync(): boolean {
    return this.#unsynced.length > 0;
  }

  /** A file is to be had or not. Its edges go to the part file while it is unwanted and has no data. */
  setWanted(file: number, wanted: boolean): void {
    this.table.setWanted(file, wanted);
    if (!wanted) return this.#partIfNew(file);
    if (this.places.isParted(file) && !this.#partMoves.has(file)) this.#movePart(file);
  }

  /** Makes the wanted files that no piece has bytes of, and links (BEP 47). */
  makeEmptyFiles(done: Done): void {
    makeEmptyFiles(this, done);
  }

  /** Gives every wanted file its size. */
  preallocate(full: boolean, done: Done): void {
    preallocate(this, full, done);
  }

  /** Moves all files under another folder, nothing else being done meanwhile. On a fault all stays where it was. */
  move(newFolder: string, done: Done): void {
    this.fence((end) => {
      moveFiles(this, newFolder, (fault) => {
        if (fault === null) this.places.rebase(newFolder);
        end();
        done(fault);
      });
    });
  }

  /** Deletes the files this torrent made or holds pieces of, then empty folders. Stop it afterwards. */
  removeData(done: Done): void {
    this.#check?.stop();
    this.fence((end) => {
      this.#writes?.clear();
      this.#reads?.clear();
      removeFiles(this, (fault) => {
        this.flushed.clearAll();
        this.synced.clearAll();
        end();
        done(fault);
      });
    });
  }

  /** Hashes pieces as they stand on disk, null for all: `onChecked` for each, then `onCheckDone`. */
  check(pieces: readonly number[] | null): void {
    if (this.#state !== 'open') return;
    this.#check?.stop();
    this.#writes?.flush();
    this.#check = new Check(this.io, this.places, this.table, this);
    this.#check.start(pieces);
  }

  /** Ends a check or restore under way; `onCheckDone` does not come. */
  stopCheck(): void {
    this.#check?.stop();
    this.#check = null;
  }

  /**
   * Finds out what of the torrent is on disk: by the record of an earlier run, else by looking (`mode` check) or by sizes
   * alone (trust). Ends in `onRestored`, then `onChecked` for what must be hashed, then `onCheckDone`.
   */
  restore(record: ResumeRecord | null, mode: 'check' | 'trust', bootId: string): void {
    restore(this, record, mode, bootId);
  }

  /** Before `restore`: takes from another torrent's files what this one may share. `done` does not come after a stop. */
  reuse(old: OldFiles, done: () => void): void {
    reuseFiles(this, old, done);
  }

  /** Called by `restore`: claims these, hashes those. */
  restored(claimed: Bitfield, synced: Bitfield | null, toHash: readonly number[]): void {
    if (this.#state !== 'open') return;
    const unsynced = new Bitfield(this.layout.pieceCount);
    for (let p = claimed.nextSet(0); p >= 0; p = claimed.nextSet(p + 1)) {
      this.flushed.set(p);
      if (synced?.get(p) === true) this.synced.set(p);
      else unsynced.set(p);
    }
    if (!unsynced.isEmpty) {
      for (let p = unsynced.nextSet(0); p >= 0; p = unsynced.nextSet(p + 1)) this.#unsynced.push(p);
      for (const file of this.table.dataFiles(this.places)) {
        const next = file < 0 ? 0 : unsynced.nextSet(this.layout.firstPiece(file));
        if (next >= 0 && (file < 0 || next <= this.layout.lastPiece(file))) this.table.setDirty(file);
      }
    }
    for (let f = 0; this.table.hasUnwanted && f < this.meta.files.length; f++) {
      if (!this.table.isWanted(f)) this.#partIfNew(f);
      else if (this.places.isParted(f)) this.setWanted(f, true);
    }
    this.#sink.onRestored(claimed, toHash.length);
    if (toHash.length > 0) this.check(toHash);
    else this.#sink.onCheckDone();
  }

  /** Pieces that a record should name as in doubt: verified, not yet written. */
  inDoubt(limit: number): number[] {
    return this.#writes === null ? [] : this.#writes.unwritten(limit);
  }

  /**
   * Ends it: writes what is verified, syncs, looks at the files' sizes and times for the record of a clean stop. After
   * `done` nothing of it is under way. A fault: not all could be written or synced, the stop is not clean.
   */
  stop(done: Done): void {
    assert(this.#state === 'open', 'stopped twice');
    this.stopCheck();
    this.#state = 'stopping';
    this.#stopping = done;
    this.#hashes.clear();
    this.#reads?.clear();
    this.#writes?.discardUnverified();
    this.#writes?.flush();
    if (this.io.inFlight === 0) this.onIdle();
  }

  /** Called at the end of a turn after `onWork`, and at `nextAt`. */
  tick(now: number): void {
    if (this.#written.length > 0) {
      const written = this.#written;
      this.#written = [];
      for (const piece of written) this.onPieceWritten(piece);
    }
    this.#writes?.tick(now);
    this.#check?.pump();
    this.#reads?.tick(now);
  }

  nextAt(): number {
    const writes = this.#writes === null ? Number.POSITIVE_INFINITY : this.#writes.nextAt();
    return this.#reads === null ? writes : Math.min(writes, this.#reads.nextAt());
  }

  /** Runs an operation alone: all I/O under way ends first, what comes meanwhile waits for `end`. */
  fence(operation: Operation): void {
    this.#fence.run(operation);
  }

  // --------------------------------------------------------------------------------------------------- from the parts

  onPieceWritten(piece: number): void {
    if (!this.flushed.set(piece)) return;
    this.#unsynced.push(piece);
    this.#sink.onFlushed(piece);
  }

  onPutWritten(piece: number): void {
    this.#hashes.resume(piece);
  }

  onFileWritten(file: number): void {
    this.table.written(file);
  }

  onWriteFault(fault: IoFault, file: number): void {
    if (GONE_CODES.has(fault.code)) this.#suspects.add(file);
    this.#sink.onStoreFault(fault);
  }

  onReleased(): void {
    this.#reads?.resume();
    this.#sink.onRoom();
  }

  onWork(): void {
    this.#sink.onWork();
  }

  /** From Reads. */
  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void {
    this.#sink.onRead(job, fault, slots, count);
  }

  /** From a hash of `hash`. */
  onStoreHash(job: number, fault: IoFault | null, digest: Uint8Array): void {
    if (this.#state === 'open') this.#sink.onStoreHash(job, fault, digest);
  }

  onChecked(piece: number, good: boolean): void {
    if (this.#writes?.holds(piece) === true) return;
    if (good) {
      if (this.flushed.set(piece)) this.#unsyncedPiece(piece);
    } else this.forget(piece);
    this.#sink.onChecked(piece, good);
  }

  onCheckDone(): void {
    this.#check = null;
    this.#sink.onCheckDone();
  }

  onIdle(): void {
    if (this.#fence.isClosed) return this.#fence.next();
    if (this.#stopping === null) return;
    if (this.#writes !== null && !this.#writes.isClean && this.#writes.fault === null) return;
    const done = this.#stopping;
    this.#stopping = null;
    this.fence((end) => this.#finish(end, done));
  }

  // ------------------------------------------------------------------------------------------------------------ private

  #writeCache(): WriteCache {
    if (this.#writes === null) {
      this.#writes = new WriteCache(this.io, this.places, this.#slots, this);
      if (this.#reads !== null) this.#reads.writes = this.#writes;
    }
    return this.#writes;
  }

  #makeReads(): Reads {
    const reads = new Reads(this.io, this.places, this.#readCache, this);
    reads.writes = this.#writes;
    return reads;
  }

  #unsyncedPiece(piece: number): void {
    this.#unsynced.push(piece);
    this.table.dirtyPiece(this.places, piece);
  }

  /** After a fence: starts what was held back. */
  #goOn(): void {
    if (this.#state === 'stopped') return;
    this.#writes?.flush();
    this.#reads?.resume();
    this.#check?.pump();
    this.#hashes.resume(-1);
    if (this.io.inFlight === 0) this.onIdle();
  }

  #finish(end: () => void, done: Done): void {
    const fault = this.fault;
    this.#writes?.clear();
    const close = (last: IoFault | null): void => {
      this.io.files.release(this.places.madeRefs());
      this.#state = 'stopped';
      end();
      done(fault ?? last ?? this.#syncFault);
    };
    if (this.table.dirtyCount > MAX_SYNC_AT_STOP) return close(UNSYNCED);
    this.sync((syncFault) => {
      if (syncFault !== null) close(syncFault);
      else this.table.refreshStamps(this.io, this.places, () => close(null));
    });
  }

  /** An unwanted file without data keeps its edges in the part file. */
  #partIfNew(file: number): void {
    if (this.places.isParted(file) || this.table.isMade(file) || this.table.exists(file)) return;
    const extents = this.places.extents(file);
    if (extents.length === 0) return;
    for (const { piece } of extents) if (this.flushed.get(piece) || this.#writes?.holds(piece) === true) return;
    this.places.setParted(file, true);
  }

  #movePart(file: number): void {
    this.#partMoves.add(file);
    this.fence((end) => {
      const written = (piece: number, block: number): boolean =>
        this.flushed.get(piece) || this.#writes?.isBlockWritten(piece, block) === true;
      moveParts(this, file, written, (fault) => {
        this.#partMoves.delete(file);
        if (fault !== null) this.#partFaults.push(file);
        end();
        this.#sink.onPartsMoved(file, fault);
      });
    });
  }
}
