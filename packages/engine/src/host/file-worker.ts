/**
 * The file thread: everything that needs a path, done synchronously and in order: opening (the descriptor goes back to
 * the network thread, which reads and writes through it), and whole accesses to small files, which cost four trips
 * through the libuv pool otherwise.
 *
 * Limit: one message at a time; answers go back every 64 requests, so that memory comes free while a long one runs.
 */

import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { errorCode, faultOf } from './fault.ts';
import {
  ANSWER_WORDS,
  type AnswerPack,
  FileOp,
  type FilePack,
  type FileReply,
  type FileRequest,
  type FileWorkerData,
  PACK_EXECUTABLE,
  PACK_FLAG,
  PACK_FOLDER,
  PACK_NO_PATH,
  PACK_WORDS,
} from './file-jobs.ts';
import { folderKey } from './folder-key.ts';
import { codedError, HAS_FD_FOLDER, OPEN_CREATE, OPEN_READ, OPEN_WRITE, SafeTree } from './safe-tree.ts';

const REPLY_BATCH = 64;
/** Opened folders are closed when nothing came for this long: they would keep a file system busy. */
const KEEP_FOLDERS_MS = 200;

const VERBS: Readonly<Record<number, string>> = {
  [FileOp.OpenRead]: 'open',
  [FileOp.OpenWrite]: 'open',
  [FileOp.Write]: 'write',
  [FileOp.Read]: 'read',
  [FileOp.Stat]: 'look at',
  [FileOp.Allocate]: 'make',
  [FileOp.Link]: 'make the link',
  [FileOp.Remove]: 'remove',
  [FileOp.Move]: 'move',
  [FileOp.Copy]: 'copy',
  [FileOp.SyncFolders]: 'sync',
};

class FileThread {
  readonly #memory: SharedArrayBuffer;
  readonly #tree: SafeTree;
  readonly #post: (answers: AnswerPack) => void;
  /** Which of several files is at work, for the message. */
  #where: string | null = null;
  #numbers = new Float64Array(REPLY_BATCH * ANSWER_WORDS);
  #answers = 0;
  #faults: FileReply[] = [];
  // the answer under way
  #a = 0;
  #b = 0;
  #c = 0;
  #d = 0;
  #e = 0;

  constructor(data: FileWorkerData, post: (answers: AnswerPack) => void) {
    this.#memory = data.memory;
    this.#tree = new SafeTree(data.maxFolders);
    this.#post = post;
  }

  close(): void {
    this.#tree.close();
  }

  runPack(pack: FilePack): void {
    const { numbers, texts } = pack;
    let text = 0;
    let folder = '';
    for (let at = 0; at < numbers.length; ) {
      const id = numbers[at]!;
      const op = numbers[at + 1]!;
      const flags = numbers[at + 2]!;
      const words = numbers[at + 4]!;
      if ((flags & PACK_FOLDER) !== 0) folder = texts[text++]!;
      const name = (flags & PACK_NO_PATH) === 0 ? texts[text++]! : '';
      this.#begin();
      try {
        this.#doPacked(op, flags, folder, name, numbers[at + 3]!, numbers, at + PACK_WORDS, words);
        this.#answer(id);
      } catch (error) {
        this.#fault(id, op, `${folder.replace('\0', '/').replace(/\/$/, '')}/${name}`, error);
      }
      at += PACK_WORDS + words;
    }
    this.#flush();
  }

  runOne(request: FileRequest): void {
    this.#begin();
    try {
      this.#do(request);
      this.#answer(request.id);
    } catch (error) {
      this.#fault(request.id, request.op, this.#where ?? [request.root, ...request.path].join('/'), error);
    }
    this.#flush();
  }

  #begin(): void {
    this.#a = this.#b = this.#c = this.#d = this.#e = 0;
    this.#where = null;
    this.#tree.tidy();
  }

  #answer(id: number): void {
    const at = this.#answers * ANSWER_WORDS;
    const numbers = this.#numbers;
    numbers[at] = id;
    numbers[at + 1] = this.#a;
    numbers[at + 2] = this.#b;
    numbers[at + 3] = this.#c;
    numbers[at + 4] = this.#d;
    numbers[at + 5] = this.#e;
    this.#answers += 1;
    if (this.#answers === REPLY_BATCH) this.#flush();
  }

  #fault(id: number, op: number, where: string, error: unknown): void {
    const { code, message } = faultOf(error, `${VERBS[op] ?? 'use'} ${where}`);
    this.#faults.push({ id, code, message });
  }

  #flush(): void {
    if (this.#answers === 0 && this.#faults.length === 0) return;
    this.#post({ numbers: this.#numbers.slice(0, this.#answers * ANSWER_WORDS), faults: this.#faults });
    this.#answers = 0;
    this.#faults = [];
  }

  #doPacked(
    op: number,
    flags: number,
    folder: string,
    name: string,
    offset: number,
    spans: Float64Array,
    from: number,
    words: number,
  ): void {
    const mode = (flags & PACK_EXECUTABLE) !== 0 ? 0o777 : 0o666;
    switch (op) {
      case FileOp.OpenRead:
        this.#open(this.#tree.openFile(folder, name, OPEN_READ, 0, false));
        break;
      case FileOp.OpenWrite: {
        const make = (flags & PACK_FLAG) === 0;
        this.#open(this.#tree.openFile(folder, name, make ? OPEN_CREATE : OPEN_WRITE, mode, make));
        break;
      }
      case FileOp.Read:
        this.#small(false, this.#tree.openFile(folder, name, OPEN_READ, 0, false), offset, spans, from, words);
        break;
      case FileOp.Write:
        this.#small(true, this.#tree.openFile(folder, name, OPEN_CREATE, mode, true), offset, spans, from, words);
        break;
      case FileOp.Stat:
        this.#stat(folder, name);
        break;
      default:
        closeSync(offset);
    }
  }

  #do(request: FileRequest): void {
    switch (request.op) {
      case FileOp.Allocate:
        this.#allocate(request);
        break;
      case FileOp.Link:
        this.#link(request);
        break;
      case FileOp.Remove:
        this.#a = this.#remove(request.root, request.paths ?? []);
        break;
      case FileOp.Move:
        this.#a = moveFiles(this.#tree, request.root, request.target![0]!, request.paths ?? [], (where) => {
          this.#where = where;
        });
        break;
      case FileOp.Copy:
        this.#copy(request);
        break;
      case FileOp.SyncFolders:
        this.#syncFolders(request.root, request.paths ?? []);
        break;
      default:
        this.#tree.forgetRoot(request.root);
    }
  }

  #open(fd: number): void {
    const stat = fstatSync(fd);
    if (!stat.isFile()) {
      closeSync(fd);
      throw notRegular();
    }
    this.#a = fd;
    this.#b = stat.dev;
    this.#c = stat.ino;
  }

  #small(writes: boolean, fd: number, offset: number, spans: Float64Array, from: number, words: number): void {
    try {
      if (!fstatSync(fd).isFile()) throw notRegular();
      let at = offset;
      for (let i = from; i < from + words; i += 2) {
        const length = spans[i + 1]!;
        const view = new Uint8Array(this.#memory, spans[i]!, length);
        for (let done = 0; done < length; ) {
          const n = writes ? writeSync(fd, view, done, length - done, at) : readSync(fd, view, done, length - done, at);
          if (n === 0) throw codedError('EIO_SHORT', writes ? 'nothing was written' : 'the file ends early');
          done += n;
          at += n;
        }
        this.#a += length;
      }
    } finally {
      closeSync(fd);
    }
  }

  #stat(folder: string, name: string): void {
    try {
      const stat = lstatSync(`${this.#tree.folder(folder, false)}/${name}`);
      this.#a = 1;
      this.#b = stat.size;
      this.#c = stat.mtimeMs;
      this.#d = stat.ino;
      this.#e = stat.isFile() ? 1 : 0;
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') throw error;
    }
  }

  #allocate(request: FileRequest): void {
    const mode = request.executable ? 0o777 : 0o666;
    const folder = folderKey(request.root, request.path);
    const fd = this.#tree.openFile(folder, request.path.at(-1)!, OPEN_CREATE, mode, true);
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw notRegular();
      this.#a = stat.size;
      if (!request.flag && stat.size !== request.offset) ftruncateSync(fd, request.offset);
    } finally {
      closeSync(fd);
    }
  }

  #link(request: FileRequest): void {
    const folder = this.#tree.parent(request.root, request.path, true);
    const at = `${folder}/${request.path[request.path.length - 1]}`;
    const target = '../'.repeat(request.path.length - 1) + request.target!.join('/');
    try {
      symlinkSync(target, at);
    } catch (error) {
      if (errorCode(error) !== 'EEXIST' || !lstatSync(at).isSymbolicLink() || readlinkSync(at) !== target) throw error;
    }
  }

  #remove(root: string, paths: readonly (readonly string[])[]): number {
    let removed = 0;
    for (const path of paths) {
      this.#where = [root, ...path].join('/');
      this.#tree.tidy();
      try {
        const at = `${this.#tree.parent(root, path, false)}/${path[path.length - 1]}`;
        const stat = lstatSync(at);
        if (!stat.isFile() && !stat.isSymbolicLink()) continue;
        unlinkSync(at);
        removed += 1;
      } catch (error) {
        if (!isAbsent(error)) throw error;
      }
    }
    removeEmptyFolders(this.#tree, root, paths);
    return removed;
  }

  #copy(request: FileRequest): void {
    const path = request.paths![0]!;
    const name = request.path.at(-1)!;
    const fd = this.#tree.openFile(folderKey(request.root, request.path), name, OPEN_READ, 0, false);
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile()) throw notRegular();
      // by its descriptor where that has a path, so that what was looked at is what is copied
      const from = HAS_FD_FOLDER
        ? `/proc/self/fd/${fd}`
        : `${this.#tree.parent(request.root, request.path, false)}/${name}`;
      this.#where = [request.target![0], ...path].join('/');
      const to = `${this.#tree.parent(request.target![0]!, path, true)}/${path.at(-1)!}`;
      copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      const readable = stat.mode & 0o444;
      const mode = (stat.mode & 0o666) | (request.executable ? readable >> 2 : 0) | 0o200;
      if (mode !== (stat.mode & 0o777)) chmodSync(to, mode);
      this.#a = stat.size;
    } finally {
      closeSync(fd);
    }
  }

  #syncFolders(root: string, paths: readonly (readonly string[])[]): void {
    const done = new Set<string>();
    for (const path of paths) {
      for (let depth = path.length; depth > 0; depth--) {
        const at = path.slice(0, depth);
        const name = at.slice(0, -1).join('/');
        if (done.has(name)) break;
        done.add(name);
        this.#where = [root, ...at].join('/');
        this.#tree.tidy();
        try {
          const fd = openSync(this.#tree.parent(root, at, false), constants.O_RDONLY);
          try {
            fsyncSync(fd);
          } finally {
            closeSync(fd);
          }
        } catch (error) {
          // some file systems do not sync folders
          if (!isAbsent(error) && errorCode(error) !== 'EINVAL') throw error;
        }
      }
    }
  }
}

function notRegular(): Error {
  return codedError('ENOTREG', 'no regular file stands there');
}

function isAbsent(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP';
}

/** The folders above these files, deepest first, as far as they are empty; never the root. */
function removeEmptyFolders(tree: SafeTree, root: string, paths: readonly (readonly string[])[]): void {
  const folders = new Map<string, readonly string[]>();
  for (const path of paths) {
    for (let depth = path.length - 1; depth > 0; depth--) {
      const folder = path.slice(0, depth);
      const name = folder.join('/');
      if (folders.has(name)) break;
      folders.set(name, folder);
    }
  }
  const deepestFirst = [...folders.values()].sort((a, b) => b.length - a.length);
  for (const folder of deepestFirst) {
    try {
      rmdirSync(`${tree.parent(root, folder, false)}/${folder[folder.length - 1]}`);
    } catch {
      // not empty, or not ours to remove
    }
  }
  tree.close();
}

interface Moved {
  readonly path: readonly string[];
  readonly from: string;
  readonly to: string;
  readonly copied: boolean;
}

/**
 * Moves what is there; all or nothing. Copies (to another file system) are complete and synced before the first source
 * goes, so that a kill leaves a whole set on one side; files already moved by a killed run count as moved.
 */
function moveFiles(
  tree: SafeTree,
  root: string,
  newRoot: string,
  paths: readonly (readonly string[])[],
  at: (where: string) => void,
): number {
  const moved: Moved[] = [];
  const made: (readonly string[])[] = [];
  let already = 0;
  try {
    for (const path of paths) {
      tree.tidy();
      at([root, ...path].join('/'));
      const name = path[path.length - 1]!;
      const there = lookAt(tree, root, path);
      const target = lookAt(tree, newRoot, path);
      if (there === null) {
        if (target !== null) already += 1;
        continue;
      }
      if (target !== null) {
        at(`${[root, ...path].join('/')} to ${newRoot}`);
        throw codedError('EEXIST', 'a file of that name is there');
      }
      const to = `${tree.parent(newRoot, path, true)}/${name}`;
      made.push(path);
      const from = `${tree.parent(root, path, false)}/${name}`;
      const copied = moveOne(from, to, there === 'link');
      moved.push({ path, from, to, copied });
    }
  } catch (error) {
    tree.close();
    for (const one of moved.reverse()) {
      const name = one.path[one.path.length - 1]!;
      const to = `${tree.parent(newRoot, one.path, false)}/${name}`;
      if (one.copied) unlinkSync(to);
      else renameSync(to, `${tree.parent(root, one.path, true)}/${name}`);
    }
    removeEmptyFolders(tree, newRoot, made);
    throw error;
  }
  for (const one of moved) {
    if (one.copied) unlinkSync(`${tree.parent(root, one.path, false)}/${one.path[one.path.length - 1]}`);
  }
  removeEmptyFolders(tree, root, paths);
  return moved.length + already;
}

function lookAt(tree: SafeTree, root: string, path: readonly string[]): 'file' | 'link' | null {
  try {
    const stat = lstatSync(`${tree.parent(root, path, false)}/${path[path.length - 1]}`);
    if (stat.isSymbolicLink()) return 'link';
    if (!stat.isFile()) throw notRegular();
    return 'file';
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** True: copied, the source is still there. */
function moveOne(from: string, to: string, link: boolean): boolean {
  try {
    renameSync(from, to);
    return false;
  } catch (error) {
    if (errorCode(error) !== 'EXDEV') throw error;
  }
  if (link) {
    symlinkSync(readlinkSync(from), to);
    return true;
  }
  const part = `${to}.moving`;
  try {
    copyFileSync(from, part, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    const fd = openSync(part, OPEN_READ);
    try {
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
    const stat = lstatSync(from);
    utimesSync(part, stat.atime, stat.mtime);
    renameSync(part, to);
  } catch (error) {
    try {
      unlinkSync(part);
    } catch {
      // was not made
    }
    throw error;
  }
  return true;
}

if (parentPort !== null) {
  const port = parentPort;
  const thread = new FileThread(workerData as FileWorkerData, (answers) => port.postMessage(answers));
  let timer: NodeJS.Timeout | null = null;
  port.on('message', (message: FilePack | FileRequest) => {
    if (timer !== null) clearTimeout(timer);
    if ('numbers' in message) thread.runPack(message);
    else thread.runOne(message);
    timer = setTimeout(() => thread.close(), KEEP_FOLDERS_MS);
  });
}
