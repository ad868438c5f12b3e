/**
 * The file thread, seen from the network thread. Requests of one turn go in one message (file-jobs.ts); the thread starts
 * with the first and holds the process only while something is asked.
 *
 * Invariant: each request is answered once, also when the thread dies (fault EWORKER).
 */

import { SHARE_ENV, Worker } from 'node:worker_threads';
import type { IoFault } from '../base/errors.ts';
import type { FileRef } from '../base/ports.ts';
import { fault } from './fault.ts';
import {
  ANSWER_WORDS,
  type AnswerPack,
  FileOp,
  type FilePack,
  type FileRequest,
  type FileWorkerData,
  PACK_EXECUTABLE,
  PACK_FLAG,
  PACK_FOLDER,
  PACK_NO_PATH,
} from './file-jobs.ts';
import { folderKey } from './folder-key.ts';

/** The numbers of an answer (file-jobs.ts); the object is used again. */
export interface Answer {
  a: number;
  b: number;
  c: number;
  d: number;
  e: number;
}

export type Answered = (why: IoFault | null, answer: Answer) => void;

export class FileThreadLink {
  readonly #memory: SharedArrayBuffer;
  readonly #maxFolders: number;
  #worker: Worker | null = null;
  #numbers: number[] = [];
  #texts: string[] = [];
  /** The folder that the next packed request inherits. */
  #folder = '';
  /** By id; ids are used again. */
  readonly #asked: (Answered | null | undefined)[] = [];
  readonly #free: number[] = [];
  #askedCount = 0;
  readonly #answer: Answer = { a: 0, b: 0, c: 0, d: 0, e: 0 };

  constructor(memory: SharedArrayBuffer, maxFolders: number) {
    this.#memory = memory;
    this.#maxFolders = maxFolders;
  }

  /** A request that may come by the thousand. `views` lie in the shared memory. */
  askPacked(
    op: number,
    file: FileRef,
    flag: boolean,
    offset: number,
    views: readonly Uint8Array[] | null,
    done: Answered,
  ): void {
    const folder = folderKey(file.root, file.path);
    const moved = folder !== this.#folder;
    const flags = (flag ? PACK_FLAG : 0) | (file.executable ? PACK_EXECUTABLE : 0) | (moved ? PACK_FOLDER : 0);
    const count = views === null ? 0 : views.length;
    this.#begin(op, flags, offset, count * 2, done);
    for (let i = 0; i < count; i++) this.#numbers.push(views![i]!.byteOffset, views![i]!.length);
    if (moved) {
      this.#texts.push(folder);
      this.#folder = folder;
    }
    this.#texts.push(file.path[file.path.length - 1]!);
  }

  /** The thread that opened a descriptor closes it. */
  closeFd(fd: number): void {
    this.#begin(FileOp.Close, PACK_NO_PATH, fd, 0, null);
  }

  ask(request: Omit<FileRequest, 'id'>, done: Answered | null): void {
    this.#post();
    this.#send({ ...request, id: this.#keep(done) });
  }

  /** Ends the thread after what was asked. */
  close(done: () => void): void {
    if (this.#worker === null && this.#numbers.length === 0) {
      setImmediate(done);
      return;
    }
    this.ask(plainRequest(FileOp.Forget, ''), () => {
      const worker = this.#worker;
      this.#worker = null;
      if (worker === null) done();
      else void worker.terminate().then(done);
    });
  }

  #begin(op: number, flags: number, offset: number, words: number, done: Answered | null): void {
    if (this.#numbers.length === 0) process.nextTick(() => this.#post());
    this.#numbers.push(this.#keep(done), op, flags, offset, words);
  }

  #keep(done: Answered | null): number {
    const id = this.#free.pop() ?? this.#asked.length;
    this.#asked[id] = done;
    this.#askedCount += 1;
    return id;
  }

  #post(): void {
    if (this.#numbers.length === 0) return;
    const pack: FilePack = { numbers: Float64Array.from(this.#numbers), texts: this.#texts };
    this.#numbers = [];
    this.#texts = [];
    this.#folder = '';
    this.#send(pack);
  }

  #send(message: FilePack | FileRequest): void {
    this.#worker ??= this.#launch();
    this.#worker.ref();
    this.#worker.postMessage(message);
  }

  #launch(): Worker {
    const data: FileWorkerData = { memory: this.#memory, maxFolders: this.#maxFolders };
    const worker = new Worker(new URL('./file-worker.js', import.meta.url), {
      workerData: data,
      env: SHARE_ENV,
      execArgv: [],
      // descriptors opened there are used here
      trackUnmanagedFds: false,
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 4, stackSizeMb: 1 },
    });
    worker.on('message', (answers: AnswerPack) => {
      this.#answered(answers);
      // one that is being ended keeps the process until it has
      if (this.#askedCount === 0 && worker === this.#worker) worker.unref();
    });
    worker.on('error', (error) => this.#died(worker, error));
    worker.on('exit', () => this.#died(worker, null));
    return worker;
  }

  #answered(answers: AnswerPack): void {
    const { numbers, faults } = answers;
    for (let at = 0; at < numbers.length; at += ANSWER_WORDS) {
      const done = this.#take(numbers[at]!);
      const answer = this.#answer;
      answer.a = numbers[at + 1]!;
      answer.b = numbers[at + 2]!;
      answer.c = numbers[at + 3]!;
      answer.d = numbers[at + 4]!;
      answer.e = numbers[at + 5]!;
      done?.(null, answer);
    }
    for (const one of faults) {
      const done = this.#take(one.id);
      done?.(fault(one.code, one.message), nothing());
    }
  }

  #take(id: number): Answered | null | undefined {
    const done = this.#asked[id];
    if (done === undefined) return undefined;
    this.#asked[id] = undefined;
    this.#free.push(id);
    this.#askedCount -= 1;
    return done;
  }

  #died(worker: Worker, error: Error | null): void {
    if (this.#worker === worker) this.#worker = null;
    if (this.#askedCount === 0) return;
    const why = fault('EWORKER', `the file thread ended: ${error?.message ?? 'no reason given'}`);
    for (let id = 0; id < this.#asked.length; id++) this.#take(id)?.(why, nothing());
  }
}

/** A request without paths yet. */
export function plainRequest(op: number, root: string): Omit<FileRequest, 'id'> {
  return { op, root, path: [], flag: false, executable: false, offset: 0, paths: null, target: null };
}

function nothing(): Answer {
  return { a: 0, b: 0, c: 0, d: 0, e: 0 };
}
