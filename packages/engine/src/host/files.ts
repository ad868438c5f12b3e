/**
 * Files on the real disk. Paths are the file thread's business (file-worker.ts); here open descriptors are kept, and
 * read and written by gathered calls on the libuv pool.
 *
 *     small access to a file that is not open  -> whole in the file thread, in a batch with others
 *     everything else                          -> descriptor (opened by the file thread, kept in an LRU) -> readv/writev
 *
 * Invariants: no sink is called from inside a call; each job is answered once; no descriptor is closed while a call uses
 * it; a file is the same file for as long as it is known here: when it was removed or replaced underneath, a write to it
 * fails with ENOENT until `release` or `stat` forgets it, since what was written before is gone.
 * Limits: 256 open files, fewer where `ulimit -n` is low.
 */

import { fdatasync, fstat, readv, writev } from 'node:fs';
import type { IoFault } from '../base/errors.ts';
import type { FileRef, FileSink, FileStatSink, Files } from '../base/ports.ts';
import { openLimit } from './descriptors.ts';
import { fault, faultOf } from './fault.ts';
import { AccessKind, FileAccess } from './file-access.ts';
import { FileOp, type FileRequest } from './file-jobs.ts';
import { type Answer, FileThreadLink, plainRequest } from './file-link.ts';
import { KnownFile } from './known-file.ts';
import { type Syncer, SyncJob } from './sync-job.ts';

/** An access up to this goes whole to the file thread, while the file was used little. */
const SMALL_BYTES = 65_536;
/** From this use on, a file is kept open. */
const SMALL_USES = 3;
/** A kept descriptor is looked at again after this time: is its file still there? */
const LOOK_MS = 1000;
const ZERO_BYTES = 1 << 20;
/** Others (connections) hold all descriptors: look again after this time. */
const SHORTAGE_MS = 50;

export class HostFiles implements Files, Syncer {
  /** How many files may be open at once. */
  readonly maxOpen: number;
  readonly #memory: SharedArrayBuffer;
  readonly #known = new Map<FileRef, KnownFile>();
  /** Files with a descriptor, least recently used first. */
  readonly #open = new Set<KnownFile>();
  /** Files that wait until another gives its descriptor up. */
  readonly #queue = new Set<KnownFile>();
  readonly #thread: FileThreadLink;
  #pendingOpens = 0;
  /** Null while nothing is copied. */
  #copier: FileThreadLink | null = null;
  #copies = 0;

  constructor(memory: SharedArrayBuffer, maxOpen: number = openLimit()) {
    this.#memory = memory;
    this.maxOpen = maxOpen;
    this.#thread = new FileThreadLink(memory, maxOpen);
  }

  read(job: number, file: FileRef, offset: number, views: readonly Uint8Array[], sink: FileSink): void {
    this.#access(AccessKind.Read, job, file, offset, views, sink);
  }

  write(job: number, file: FileRef, offset: number, views: readonly Uint8Array[], sink: FileSink): void {
    this.#access(AccessKind.Write, job, file, offset, views, sink);
  }

  /** bytes: files synced. What is not there needs no sync. */
  sync(job: number, files: readonly FileRef[], sink: FileSink): void {
    new SyncJob(this, job, files, sink).start();
  }

  stat(job: number, file: FileRef, sink: FileStatSink): void {
    const known = this.#known.get(file);
    if (known !== undefined) this.#forget(known);
    this.#thread.askPacked(FileOp.Stat, file, false, 0, null, (why, r) => {
      if (why !== null || r.a === 0) sink.onStat(job, why, null);
      else sink.onStat(job, null, { size: r.b, mtimeMs: r.c, inode: r.d, regular: r.e === 1 });
    });
  }

  /** Zeros are written from the file's end on; data that is there stays. bytes: size before. */
  allocate(job: number, file: FileRef, size: number, full: boolean, sink: FileSink): void {
    this.#thread.ask({ ...requestFor(FileOp.Allocate, file), flag: full, offset: size }, (why, r) => {
      const before = r.a;
      if (why === null && full && before <= size) {
        this.#zeros(job, file, before, before, size, sink);
        return;
      }
      if (why !== null || !full) sink.onFile(job, why, before);
      else {
        const cut = { ...requestFor(FileOp.Allocate, file), offset: size };
        this.#thread.ask(cut, (failed) => sink.onFile(job, failed, before));
      }
    });
  }

  link(job: number, file: FileRef, target: readonly string[], sink: FileSink): void {
    this.#thread.ask({ ...requestFor(FileOp.Link, file), target }, (why) => sink.onFile(job, why, 0));
  }

  remove(job: number, files: readonly FileRef[], sink: FileSink): void {
    this.#release(files, () => {
      this.#byRoot(files, FileOp.Remove, null, (why, count) => sink.onFile(job, why, count));
    });
  }

  /** On success the caller sets `root` of the files. A move of its own thread, since copying may take long. */
  move(job: number, files: readonly FileRef[], newRoot: string, sink: FileSink): void {
    this.#release(files, () => {
      const mover = new FileThreadLink(this.#memory, this.maxOpen);
      const root = files[0]?.root ?? newRoot;
      const request = { ...plainRequest(FileOp.Move, root), target: [newRoot] };
      mover.ask({ ...request, paths: files.map((f) => f.path) }, (why, r) => {
        const count = r.a;
        mover.close(() => sink.onFile(job, why, count));
      });
    });
  }

  /** On a thread of its own, shared by copies that come together, since copying may take long. */
  copy(job: number, from: FileRef, to: FileRef, sink: FileSink): void {
    this.#copier ??= new FileThreadLink(this.#memory, this.maxOpen);
    const copier = this.#copier;
    this.#copies += 1;
    const request = { ...requestFor(FileOp.Copy, from), executable: to.executable };
    copier.ask({ ...request, paths: [to.path], target: [to.root] }, (why, r) => {
      const bytes = r.a;
      sink.onFile(job, why, bytes);
      this.#copies -= 1;
      if (this.#copies > 0) return;
      this.#copier = null;
      copier.close(() => {});
    });
  }

  release(files: readonly FileRef[]): void {
    this.#release(files, null);
    const roots = new Set<string>();
    for (const file of files) roots.add(file.root);
    for (const root of roots) this.#thread.ask(plainRequest(FileOp.Forget, root), null);
  }

  /** Open descriptors. */
  get openCount(): number {
    return this.#open.size;
  }

  /** Closes all once what runs is done. */
  close(done: () => void): void {
    this.#release([...this.#known.keys()], () => this.#thread.close(done));
  }

  // ------------------------------------------------------------------------------------------------ for SyncJob

  syncOne(job: number, file: FileRef, sink: FileSink): void {
    const known = this.#file(file);
    if (known.synced) setImmediate(() => sink.onFile(job, null, 0));
    else this.#enqueue(new FileAccess(AccessKind.Sync, job, known, 0, [], sink));
  }

  syncFolders(files: readonly FileRef[], done: (why: IoFault | null) => void): void {
    this.#byRoot(files, FileOp.SyncFolders, null, done);
  }

  // ------------------------------------------------------------------------------------------------ accesses

  #access(kind: number, job: number, ref: FileRef, offset: number, views: readonly Uint8Array[], sink: FileSink): void {
    const file = this.#file(ref);
    if (kind === AccessKind.Write) {
      file.synced = false;
      file.writes += 1;
    }
    if (file.fd === -1 && !file.opening && file.smallUses < SMALL_USES) {
      if (this.#isSmall(views)) {
        this.#small(kind, job, file, offset, views, sink);
        return;
      }
    }
    this.#enqueue(new FileAccess(kind, job, file, offset, views, sink));
  }

  #isSmall(views: readonly Uint8Array[]): boolean {
    let bytes = 0;
    for (let i = 0; i < views.length; i++) {
      bytes += views[i]!.length;
      if (bytes > SMALL_BYTES || views[i]!.buffer !== this.#memory) return false;
    }
    return true;
  }

  #small(
    kind: number,
    job: number,
    file: KnownFile,
    offset: number,
    views: readonly Uint8Array[],
    sink: FileSink,
  ): void {
    file.smallUses += 1;
    file.busy += 1;
    const op = kind === AccessKind.Read ? FileOp.Read : FileOp.Write;
    this.#thread.askPacked(op, file.ref, false, offset, views, (why, r) => {
      const bytes = r.a;
      this.#unbusy(file);
      if (isShortage(why)) this.#enqueue(new FileAccess(kind, job, file, offset, views, sink));
      else sink.onFile(job, why, bytes);
    });
  }

  #enqueue(op: FileAccess): void {
    const file = op.file;
    const usable = file.fd !== -1 && !file.doomed && (op.kind !== AccessKind.Write || file.writable);
    if (usable && file.waiting.length === 0) {
      this.#start(op);
      return;
    }
    file.waiting.push(op);
    this.#openFor(file);
  }

  /** Opens for what waits, once nothing runs on a descriptor that does not do. */
  #openFor(file: KnownFile): void {
    if (file.opening || file.waiting.length === 0) return;
    const writes = file.waiting.some((op) => op.kind === AccessKind.Write);
    if (file.fd !== -1) {
      if (!file.doomed && (!writes || file.writable)) {
        this.#startWaiting(file);
        return;
      }
      if (file.busy > 0) return;
      this.#closeFd(file);
    }
    if (this.#open.size + this.#pendingOpens >= this.maxOpen && !this.#evict()) {
      this.#queue.add(file);
      return;
    }
    this.#queue.delete(file);
    file.opening = true;
    this.#pendingOpens += 1;
    const op = writes ? FileOp.OpenWrite : FileOp.OpenRead;
    this.#thread.askPacked(op, file.ref, file.inode !== 0, 0, null, (why, r) => this.#opened(file, writes, why, r));
  }

  #opened(file: KnownFile, writable: boolean, why: IoFault | null, r: Answer): void {
    file.opening = false;
    this.#pendingOpens -= 1;
    if (isShortage(why)) {
      // others of this process took the descriptors: try again when one of these comes free
      if (this.#evict()) {
        this.#openFor(file);
        return;
      }
      if (this.#open.size > 0) {
        this.#queue.add(file);
        return;
      }
      if (file.patience > 0) {
        file.patience -= 1;
        setTimeout(() => this.#openFor(file), SHORTAGE_MS);
        return;
      }
    }
    file.restorePatience();
    if (why !== null) {
      const ops = file.waiting.splice(0);
      for (const op of ops) op.sink.onFile(op.job, why, 0);
      this.#settle(file);
      return;
    }
    if (file.inode !== 0 && (file.inode !== r.c || file.device !== r.b)) {
      this.#thread.closeFd(r.a);
      this.#failReplaced(file);
      return;
    }
    file.fd = r.a;
    file.device = r.b;
    file.inode = r.c;
    file.writable = writable;
    file.lookedMs = performance.now();
    this.#open.add(file);
    this.#startWaiting(file);
    this.#settle(file);
  }

  #failReplaced(file: KnownFile): void {
    const why = fault('ENOENT', `${file.path} was removed or replaced while in use`);
    for (const op of file.waiting.splice(0)) op.sink.onFile(op.job, why, 0);
    this.#settle(file);
  }

  #startWaiting(file: KnownFile): void {
    const ops = file.waiting.splice(0);
    for (let i = 0; i < ops.length; i++) {
      const op = ops[i]!;
      if (op.kind === AccessKind.Write && !file.writable) file.waiting.push(op);
      else this.#start(op);
    }
    if (file.waiting.length > 0) this.#openFor(file);
  }

  #start(op: FileAccess): void {
    const file = op.file;
    file.busy += 1;
    this.#open.delete(file);
    this.#open.add(file);
    const now = performance.now();
    if (now - file.lookedMs < LOOK_MS) {
      this.#go(op);
      return;
    }
    file.lookedMs = now;
    fstat(file.fd, (error, stat) => {
      if (error === null && stat.nlink > 0 && stat.size >= file.end) {
        this.#go(op);
        return;
      }
      file.doomed = true;
      const { path } = file;
      if (error === null && stat.nlink > 0) {
        this.#finish(op, fault('EIO_SHORT', `${path} is shorter than it was`));
        return;
      }
      this.#finish(
        op,
        error ? faultOf(error, `use ${path}`) : fault('ENOENT', `${path} was removed or replaced while in use`),
      );
    });
  }

  #go(op: FileAccess): void {
    const file = op.file;
    if (op.kind === AccessKind.Write && file.writing !== op) {
      if (file.writing !== null) {
        file.toWrite.push(op);
        return;
      }
      file.writing = op;
    }
    if (op.kind === AccessKind.Sync) {
      const writes = file.writes;
      fdatasync(file.fd, (error) => {
        if (error === null && writes === file.writes) file.synced = true;
        this.#finish(op, error ? this.#faultOf(error, 'sync', file) : null);
      });
      return;
    }
    const views = op.remaining();
    if (views.length === 0) {
      // nothing to move; the answer still comes later
      setImmediate(() => this.#finish(op, null));
      return;
    }
    const moved = (error: Error | null, bytes: number): void => this.#moved(op, error, bytes);
    if (op.kind === AccessKind.Read) readv(file.fd, views, op.offset + op.bytes, moved);
    else writev(file.fd, views, op.offset + op.bytes, moved);
  }

  #moved(op: FileAccess, error: Error | null, bytes: number): void {
    if (error !== null) {
      this.#finish(op, this.#faultOf(error, op.kind === AccessKind.Read ? 'read' : 'write', op.file));
      return;
    }
    if (bytes === 0) {
      this.#finish(op, fault('EIO_SHORT', `${op.file.path} is shorter than it should be`));
      return;
    }
    op.advance(bytes);
    if (op.kind === AccessKind.Write) op.file.end = Math.max(op.file.end, op.offset + op.bytes);
    if (op.isDone) this.#finish(op, null);
    else this.#go(op);
  }

  #finish(op: FileAccess, why: IoFault | null): void {
    if (op.file.writing === op) {
      op.file.writing = null;
      const next = op.file.toWrite.shift();
      if (next !== undefined) {
        next.join(op.file.toWrite);
        this.#go(next);
      }
    }
    for (const follower of op.followers) {
      const bytes = why === null ? follower.length : 0;
      op.bytes = Math.max(0, op.bytes - bytes);
      this.#unbusy(follower.file);
      follower.sink.onFile(follower.job, why, bytes);
    }
    this.#unbusy(op.file);
    op.sink.onFile(op.job, why, op.bytes);
  }

  // ------------------------------------------------------------------------------------------------ descriptors

  #file(ref: FileRef): KnownFile {
    let file = this.#known.get(ref);
    if (file === undefined) {
      file = new KnownFile(ref);
      this.#known.set(ref, file);
    }
    return file;
  }

  #unbusy(file: KnownFile): void {
    file.busy -= 1;
    if (file.busy === 0) this.#settle(file);
  }

  /** After a change: closes, reopens, tells those who wait, forgets. */
  #settle(file: KnownFile): void {
    if (file.busy > 0) return;
    if (file.doomed && file.fd !== -1) this.#closeFd(file);
    if (file.waiting.length > 0) this.#openFor(file);
    if (this.#queue.size > 0) this.#serveQueue();
    if (!file.idle) return;
    for (const call of file.whenIdle.splice(0)) call();
  }

  #serveQueue(): void {
    for (const file of this.#queue) {
      if (this.#open.size + this.#pendingOpens >= this.maxOpen && !this.#evict()) return;
      this.#queue.delete(file);
      this.#openFor(file);
    }
  }

  #closeFd(file: KnownFile): void {
    const fd = file.fd;
    file.fd = -1;
    file.doomed = false;
    this.#open.delete(file);
    this.#thread.closeFd(fd);
  }

  /** Closes the least recently used file that nobody uses. */
  #evict(): boolean {
    for (const file of this.#open) {
      if (file.busy > 0) continue;
      this.#closeFd(file);
      return true;
    }
    return false;
  }

  #forget(file: KnownFile): void {
    file.inode = 0;
    file.device = 0;
    file.end = 0;
    if (file.fd === -1) return;
    if (file.busy > 0) file.doomed = true;
    else this.#closeFd(file);
  }

  /** Closes and forgets these files once they are idle, then calls. */
  #release(refs: readonly FileRef[], done: (() => void) | null): void {
    let waiting = 1;
    const one = (): void => {
      waiting -= 1;
      if (waiting === 0) done?.();
    };
    for (const ref of refs) {
      const file = this.#known.get(ref);
      if (file === undefined) continue;
      this.#forget(file);
      const drop = (): void => {
        if (this.#known.get(ref) === file && file.fd === -1) this.#known.delete(ref);
        one();
      };
      waiting += 1;
      if (file.idle) drop();
      else file.whenIdle.push(drop);
    }
    one();
  }

  #byRoot(
    files: readonly FileRef[],
    op: number,
    target: readonly string[] | null,
    done: (why: IoFault | null, count: number) => void,
  ): void {
    const roots = new Map<string, (readonly string[])[]>();
    for (const file of files) {
      const paths = roots.get(file.root);
      if (paths === undefined) roots.set(file.root, [file.path]);
      else paths.push(file.path);
    }
    let waiting = roots.size;
    let total = 0;
    let first: IoFault | null = null;
    if (waiting === 0) setImmediate(() => done(null, 0));
    for (const [root, paths] of roots) {
      const request = plainRequest(op, root);
      this.#thread.ask({ ...request, paths, target }, (why, r) => {
        first ??= why;
        total += r.a;
        waiting -= 1;
        if (waiting === 0) done(first, total);
      });
    }
  }

  #faultOf(error: unknown, verb: string, file: KnownFile): IoFault {
    return faultOf(error, `${verb} ${file.path}`);
  }

  /** Full preallocation: zeros from `from` to `size`, 1 MiB at a time, each through a write of its own. */
  #zeros(job: number, file: FileRef, before: number, from: number, size: number, sink: FileSink): void {
    const length = Math.min(ZERO_BYTES, size - from);
    if (length <= 0) {
      setImmediate(() => sink.onFile(job, null, before));
      return;
    }
    const known = this.#file(file);
    known.smallUses = SMALL_USES;
    this.write(job, file, from, [zeros().subarray(0, length)], {
      onFile: (_job, why) => {
        if (why !== null) sink.onFile(job, why, before);
        else if (known !== this.#known.get(file)) {
          sink.onFile(job, fault('ECANCELED', `gave up filling ${known.path}`), before);
        } else this.#zeros(job, file, before, from + length, size, sink);
      },
    });
  }
}

function isShortage(why: IoFault | null): boolean {
  return why !== null && (why.code === 'EMFILE' || why.code === 'ENFILE');
}

let zeroBytes: Uint8Array | null = null;

function zeros(): Uint8Array {
  zeroBytes ??= new Uint8Array(ZERO_BYTES);
  return zeroBytes;
}

function requestFor(op: number, file: FileRef): Omit<FileRequest, 'id'> {
  return { ...plainRequest(op, file.root), path: file.path, executable: file.executable };
}
