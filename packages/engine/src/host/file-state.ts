/**
 * Durable records, one file per key:
 *
 *     KEY.state   the record: magic 8 | length u32 | SHA-256 cut to 16 | bytes
 *     KEY.prev    the record before it
 *     KEY.bad     a record that failed its checksum, set aside
 *     KEY.tmp     a save under way; no record
 *
 * A save writes and syncs KEY.tmp, renames KEY.state to KEY.prev and KEY.tmp to KEY.state, and syncs the folder: at each
 * instant one of them is whole. A full disk stops it before anything old is touched.
 * Invariants: one save of a key at a time; of those that wait the newest is written and answers all; nothing is written
 * by a process that does not hold the lock (state-lock.ts).
 * Limits: keys of 1..100 letters, digits, '-', '_', '.'; two saves at once, so that the disk pool stays free for data;
 * 8 ms of loading a turn; files 0600 in a folder 0700; records up to 256 MiB.
 */

import { createHash } from 'node:crypto';
import {
  close,
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  fsync,
  mkdirSync,
  open,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rename,
  renameSync,
  unlink,
  unlinkSync,
  write,
} from 'node:fs';
import type { IoFault } from '../base/errors.ts';
import type { StateStore } from '../base/ports.ts';
import { errorCode, fault, faultOf } from './fault.ts';
import { StateLock } from './state-lock.ts';

const MAGIC: Uint8Array = new TextEncoder().encode('shoal-1\n');
const HEAD_BYTES = 28;
const MAX_RECORD_BYTES = 256 << 20;
const KEY = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/;
const SAVES_AT_ONCE = 2;
const LOAD_SLICE_MS = 8;
const NOFOLLOW: number = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

type Done = (fault: IoFault | null) => void;
type Loaded = (fault: IoFault | null, bytes: Uint8Array | null) => void;

/** What waits to happen to a key; bytes null: removal. */
interface Pending {
  bytes: Uint8Array | null;
  done: Done[];
}

export class FileState implements StateStore {
  readonly bootId: string;
  readonly #folder: string;
  readonly #lock: StateLock;
  readonly #keys = new Set<string>();
  readonly #pending = new Map<string, Pending>();
  readonly #running = new Map<string, Pending>();
  readonly #loads: { key: string; done: Loaded }[] = [];
  #folderSync: FolderSync;
  #isOpen = false;
  #closing: (() => void) | null = null;

  constructor(folder: string) {
    this.#folder = folder;
    this.#lock = new StateLock(folder);
    this.#folderSync = new FolderSync(folder);
    this.bootId = readBootId();
  }

  open(done: Done): void {
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    } catch (error) {
      const why = faultOf(error, `make the state folder ${this.#folder}`);
      setImmediate(() => done(why));
      return;
    }
    this.#lock.take((why) => {
      if (why !== null) {
        done(why);
        return;
      }
      try {
        this.#survey();
        this.#isOpen = true;
      } catch (error) {
        this.#lock.release(() => done(faultOf(error, `read the state folder ${this.#folder}`)));
        return;
      }
      done(null);
    });
  }

  list(done: (fault: IoFault | null, keys: readonly string[]) => void): void {
    setImmediate(() => done(this.#isOpen ? null : this.#shut(), this.#isOpen ? [...this.#keys].sort() : []));
  }

  load(key: string, done: Loaded): void {
    if (this.#loads.length === 0) setImmediate(() => this.#loadSlice());
    this.#loads.push({ key, done });
  }

  save(key: string, bytes: Uint8Array, done: Done): void {
    if (bytes.length > MAX_RECORD_BYTES) {
      setImmediate(() => done(fault('ETOOBIG', `the state record ${key} is larger than 256 MiB`)));
      return;
    }
    this.#ask(key, seal(bytes), done);
  }

  remove(key: string, done: Done): void {
    this.#ask(key, null, done);
  }

  close(done: () => void): void {
    if (!this.#isOpen) {
      this.#lock.release(done);
      return;
    }
    this.#isOpen = false;
    this.#closing = done;
    this.#next();
  }

  #shut(): IoFault {
    return fault('ECLOSED', `the state folder ${this.#folder} is not open`);
  }

  #path(key: string, end: string): string {
    return `${this.#folder}/${key}.${end}`;
  }

  /** Learns the keys and removes what killed saves left. */
  #survey(): void {
    for (const name of readdirSync(this.#folder)) {
      const dot = name.lastIndexOf('.');
      const key = name.slice(0, dot);
      const end = name.slice(dot + 1);
      if (dot <= 0 || !KEY.test(key)) continue;
      if (end === 'state' || end === 'prev') this.#keys.add(key);
      else if (end === 'tmp') unlinkSync(`${this.#folder}/${name}`);
    }
  }

  // ------------------------------------------------------------------------------------------------ loading

  #loadSlice(): void {
    const until = performance.now() + LOAD_SLICE_MS;
    let i = 0;
    while (i < this.#loads.length && performance.now() < until) {
      const { key, done } = this.#loads[i++]!;
      this.#loadOne(key, done);
    }
    this.#loads.splice(0, i);
    if (this.#loads.length > 0) setImmediate(() => this.#loadSlice());
  }

  #loadOne(key: string, done: Loaded): void {
    const waiting = this.#pending.get(key) ?? this.#running.get(key);
    if (!this.#isOpen || !KEY.test(key)) {
      done(this.#isOpen ? badKey(key) : this.#shut(), null);
    } else if (waiting !== undefined) {
      done(null, waiting.bytes === null ? null : waiting.bytes.slice(HEAD_BYTES));
    } else if (!this.#keys.has(key)) {
      done(null, null);
    } else {
      try {
        done(null, this.#loadBest(key));
      } catch (error) {
        done(faultOf(error, `read ${this.#path(key, 'state')}`), null);
      }
    }
  }

  #loadBest(key: string): Uint8Array | null {
    const path = this.#path(key, 'state');
    const record = readRecord(path);
    if (record instanceof Uint8Array) return record;
    if (record === 'corrupt') renameSync(path, this.#path(key, 'bad'));
    const before = readRecord(this.#path(key, 'prev'));
    return before instanceof Uint8Array ? before : null;
  }

  // ------------------------------------------------------------------------------------------------ saving

  #ask(key: string, bytes: Uint8Array | null, done: Done): void {
    if (!this.#isOpen || !KEY.test(key)) {
      const why = this.#isOpen ? badKey(key) : this.#shut();
      setImmediate(() => done(why));
      return;
    }
    if (bytes === null) this.#keys.delete(key);
    else this.#keys.add(key);
    const waiting = this.#pending.get(key);
    if (waiting !== undefined) {
      // the newest wins and answers those before it
      waiting.bytes = bytes;
      waiting.done.push(done);
      return;
    }
    this.#pending.set(key, { bytes, done: [done] });
    // not at once, so that a second save of this turn is still in time
    setImmediate(() => this.#next());
  }

  #next(): void {
    for (const [key, work] of this.#pending) {
      if (this.#running.size >= SAVES_AT_ONCE) return;
      if (this.#running.has(key)) continue;
      this.#pending.delete(key);
      this.#running.set(key, work);
      const finish = (why: IoFault | null): void => {
        this.#running.delete(key);
        for (const done of work.done) done(why);
        this.#next();
      };
      if (work.bytes === null) this.#removeFiles(key, finish);
      else this.#writeFiles(key, work.bytes, finish);
    }
    if (this.#closing === null || this.#running.size > 0 || this.#pending.size > 0) return;
    const done = this.#closing;
    this.#closing = null;
    this.#lock.release(done);
  }

  #writeFiles(key: string, bytes: Uint8Array, done: Done): void {
    const tmp = this.#path(key, 'tmp');
    const state = this.#path(key, 'state');
    const fail = (error: unknown): void => {
      unlink(tmp, () => done(faultOf(error, `save ${state}`)));
    };
    writeWhole(tmp, bytes, (error) => {
      if (error !== null) {
        fail(error);
        return;
      }
      rename(state, this.#path(key, 'prev'), (moved) => {
        if (moved !== null && errorCode(moved) !== 'ENOENT') {
          fail(moved);
          return;
        }
        rename(tmp, state, (renamed) => {
          if (renamed !== null) fail(renamed);
          else this.#folderSync.ask((e) => done(e === null ? null : faultOf(e, `sync ${this.#folder}`)));
        });
      });
    });
  }

  /** The older record goes first: a kill in between must not bring it back. */
  #removeFiles(key: string, done: Done): void {
    const ends = ['tmp', 'bad', 'prev', 'state'];
    const step = (i: number): void => {
      if (i === ends.length) {
        this.#folderSync.ask((e) => done(e === null ? null : faultOf(e, `sync ${this.#folder}`)));
        return;
      }
      unlink(this.#path(key, ends[i]!), (error) => {
        if (error !== null && errorCode(error) !== 'ENOENT')
          done(faultOf(error, `remove ${this.#path(key, ends[i]!)}`));
        else step(i + 1);
      });
    };
    step(0);
  }
}

/** Syncs the folder once for all who ask while a sync runs. */
class FolderSync {
  readonly #folder: string;
  #running = false;
  #waiting: ((error: Error | null) => void)[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  ask(done: (error: Error | null) => void): void {
    this.#waiting.push(done);
    if (!this.#running) this.#run();
  }

  #run(): void {
    const told = this.#waiting;
    this.#waiting = [];
    this.#running = true;
    syncFolder(this.#folder, (error) => {
      this.#running = false;
      if (this.#waiting.length > 0) this.#run();
      for (const done of told) done(error);
    });
  }
}

function syncFolder(folder: string, done: (error: Error | null) => void): void {
  open(folder, constants.O_RDONLY, (error, fd) => {
    // folders cannot be opened on some systems; there is nothing more to do then
    if (error !== null) {
      done(errorCode(error) === 'EISDIR' || errorCode(error) === 'EPERM' ? null : error);
      return;
    }
    fsync(fd, (failed) => {
      close(fd, () => done(failed !== null && errorCode(failed) !== 'EINVAL' ? failed : null));
    });
  });
}

function writeWhole(path: string, bytes: Uint8Array, done: (error: Error | null) => void): void {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | NOFOLLOW;
  open(path, flags, 0o600, (error, fd) => {
    if (error !== null) {
      done(error);
      return;
    }
    const end = (failed: Error | null): void => {
      close(fd, (closed) => done(failed ?? closed ?? null));
    };
    const step = (at: number): void => {
      if (at === bytes.length) {
        fdatasync(fd, end);
        return;
      }
      write(fd, bytes, at, bytes.length - at, at, (failed, n) => {
        if (failed !== null) end(failed);
        else step(at + n);
      });
    };
    step(0);
  });
}

function badKey(key: string): IoFault {
  return fault('EINVAL', `"${key.slice(0, 40)}" cannot name a state record`);
}

function seal(bytes: Uint8Array): Uint8Array {
  const record = new Uint8Array(HEAD_BYTES + bytes.length);
  record.set(MAGIC);
  new DataView(record.buffer).setUint32(8, bytes.length);
  record.set(digestOf(bytes), 12);
  record.set(bytes, HEAD_BYTES);
  return record;
}

function digestOf(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest().subarray(0, 16);
}

/** The record's bytes; 'absent'; or 'corrupt'. Throws when reading fails. */
function readRecord(path: string): Uint8Array | 'absent' | 'corrupt' {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | NOFOLLOW);
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT') return 'absent';
    if (code === 'ELOOP' || code === 'ENXIO') return 'corrupt';
    throw error;
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size < HEAD_BYTES || stat.size > MAX_RECORD_BYTES + HEAD_BYTES) return 'corrupt';
    const file = new Uint8Array(stat.size);
    let filled = 0;
    while (filled < file.length) {
      const n = readSync(fd, file, filled, file.length - filled, filled);
      if (n === 0) return 'corrupt';
      filled += n;
    }
    return unseal(file) ?? 'corrupt';
  } finally {
    closeSync(fd);
  }
}

function unseal(file: Uint8Array): Uint8Array | null {
  for (let i = 0; i < MAGIC.length; i++) if (file[i] !== MAGIC[i]) return null;
  const bytes = file.subarray(HEAD_BYTES);
  if (new DataView(file.buffer).getUint32(8) !== bytes.length) return null;
  const digest = digestOf(bytes);
  for (let i = 0; i < 16; i++) if (file[12 + i] !== digest[i]) return null;
  return bytes;
}

/** The kernel's id of this boot; elsewhere the moment of boot, to ten seconds. */
function readBootId(): string {
  try {
    const id = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    if (id !== '') return id;
  } catch {
    // not Linux
  }
  const boot = Date.now() - Number(process.hrtime.bigint() / 1_000_000n);
  return `boot-${Math.round(boot / 10_000)}`;
}
