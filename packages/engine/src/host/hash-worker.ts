/**
 * A hash worker's thread: takes commands from its ring, hashes slots where they lie in shared memory, or reads files and
 * hashes them, and replies. It sleeps in Atomics.wait, never in an event loop.
 *
 * Invariant: one command at a time, in order; so the calls of one running hash follow each other.
 * Limits: one read buffer; one file open at a time.
 */

import { createHash, type Hash, hash } from 'node:crypto';
import { closeSync, fstatSync, readSync } from 'node:fs';
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { HashKind } from '../base/ports.ts';
import { BLOCK_BYTES, SLOT_STRIDE } from '../base/slot-pool.ts';
import { errorCode, faultOf } from './fault.ts';
import { folderKey } from './folder-key.ts';
import {
  COMMAND_HEAD_WORDS,
  type HashFileSpan,
  type HashFilesMessage,
  HashOp,
  type HashReplyMessage,
  type HashSlotsMessage,
  type HashWorkerData,
  RING_BELL,
  RING_COMMAND_WORDS,
  RING_COMMANDS,
  RING_DIGEST_BYTES,
  RING_HEAD,
  RING_REPLIES,
  RING_REPLY_COUNT,
  RING_REPLY_HEAD,
  RING_REPLY_TAIL,
  RING_REPLY_WORDS,
  RING_TAIL,
} from './hash-ring.ts';
import { OPEN_READ, SafeTree } from './safe-tree.ts';

const EMPTY = new Uint8Array(0);
/** Large enough to make system calls cheap, small enough to stay in the cache between read and hash. */
const READ_BYTES = 256 * 1024;

/** A digest in the making: SHA-1, leaves of SHA-256, or both; fed in stretches of any length. */
class Digester {
  readonly #kind: number;
  #sha1: Hash | null;
  #leaves: Uint8Array = EMPTY;
  #leafCount = 0;
  #leaf: Hash | null = null;
  #leafFilled = 0;

  constructor(kind: number) {
    this.#kind = kind;
    this.#sha1 = kind === HashKind.Merkle ? null : createHash('sha1');
  }

  update(bytes: Uint8Array): void {
    this.#sha1?.update(bytes);
    if (this.#kind === HashKind.Sha1) return;
    let at = 0;
    while (at < bytes.length) {
      const n = Math.min(BLOCK_BYTES - this.#leafFilled, bytes.length - at);
      const part = n === bytes.length ? bytes : bytes.subarray(at, at + n);
      if (n === BLOCK_BYTES) this.#addLeaf(hash('sha256', part, 'buffer'));
      else {
        this.#leaf ??= createHash('sha256');
        this.#leaf.update(part);
        this.#leafFilled += n;
        if (this.#leafFilled === BLOCK_BYTES) this.#endLeaf();
      }
      at += n;
    }
  }

  finish(treeLeaves: number): Uint8Array {
    if (this.#leaf !== null) this.#endLeaf();
    const sha1 = this.#sha1?.digest() ?? EMPTY;
    if (this.#kind === HashKind.Sha1) return sha1;
    const root = merkleRoot(this.#leaves, this.#leafCount, treeLeaves);
    if (this.#kind === HashKind.Merkle) return root;
    const both = new Uint8Array(52);
    both.set(sha1);
    both.set(root, 20);
    return both;
  }

  #endLeaf(): void {
    this.#addLeaf(this.#leaf!.digest());
    this.#leaf = null;
    this.#leafFilled = 0;
  }

  #addLeaf(digest: Uint8Array): void {
    if ((this.#leafCount + 1) * 32 > this.#leaves.length) {
      const grown = new Uint8Array(Math.max(64 * 32, this.#leaves.length * 2));
      grown.set(this.#leaves);
      this.#leaves = grown;
    }
    this.#leaves.set(digest, this.#leafCount * 32);
    this.#leafCount += 1;
  }
}

/** Reduces in place; `count` leaves, the rest of `width` are zeros (BEP 52). */
function merkleRoot(leaves: Uint8Array, count: number, width: number): Uint8Array {
  let level = 0;
  let span = 1;
  while (span < Math.max(width, count)) span *= 2;
  if (count === 0) return padRoot(Math.log2(span));
  const pair = new Uint8Array(64);
  for (; span > 1; span /= 2) {
    const parents = (count + 1) >> 1;
    for (let i = 0; i < parents; i++) {
      pair.set(leaves.subarray(i * 64, i * 64 + 32));
      pair.set(i * 2 + 1 < count ? leaves.subarray(i * 64 + 32, i * 64 + 64) : padRoot(level), 32);
      leaves.set(hash('sha256', pair, 'buffer'), i * 32);
    }
    count = parents;
    level += 1;
  }
  return leaves.slice(0, 32);
}

/** Root of a tree of 2^level zero leaves. */
function padRoot(level: number): Uint8Array {
  while (pads.length <= level) {
    const below = pads[pads.length - 1]!;
    const pair = new Uint8Array(64);
    pair.set(below);
    pair.set(below, 32);
    pads.push(new Uint8Array(hash('sha256', pair, 'buffer')));
  }
  return pads[level]!;
}

const pads: Uint8Array[] = [new Uint8Array(32)];

class HashWorker {
  readonly #port: MessagePort;
  readonly #ring: Int32Array;
  readonly #ringBytes: Uint8Array;
  readonly #memory: SharedArrayBuffer;
  readonly #slotBase: number;
  readonly #views: (Uint8Array | undefined)[] = [];
  readonly #streams = new Map<number, Digester>();
  readonly #tree = new SafeTree();
  #readBuffer: Uint8Array = EMPTY;
  #tail = 0;

  constructor(port: MessagePort, data: HashWorkerData) {
    this.#port = port;
    this.#ring = new Int32Array(data.ring);
    this.#ringBytes = new Uint8Array(data.ring);
    this.#memory = data.memory;
    this.#slotBase = data.slotBase;
  }

  run(): never {
    const ring = this.#ring;
    for (;;) {
      const head = Atomics.load(ring, RING_HEAD);
      if (head === this.#tail) {
        Atomics.wait(ring, RING_HEAD, head);
        continue;
      }
      this.#command();
    }
  }

  /** Word `at` of the command at the tail. */
  #word(at: number): number {
    return this.#ring[RING_COMMANDS + ((this.#tail + at) & (RING_COMMAND_WORDS - 1))]!;
  }

  #command(): void {
    const op = this.#word(0);
    const index = this.#word(1);
    const count = this.#word(6);
    let digest: Uint8Array | null = null;
    if (op === HashOp.Abandon) this.#streams.delete(this.#word(4));
    else if (op !== HashOp.Message) {
      const slots = new Int32Array(count);
      for (let i = 0; i < count; i++) slots[i] = this.#word(COMMAND_HEAD_WORDS + i);
      const last = this.#word(5) === 1;
      digest = this.#hashSlots(op, slots, this.#word(2), this.#word(3), this.#word(4), last);
    }
    this.#tail = (this.#tail + COMMAND_HEAD_WORDS + count) | 0;
    Atomics.store(this.#ring, RING_TAIL, this.#tail);
    if (digest !== null) this.#reply(index, digest, '', '');
    if (op === HashOp.Message) this.#message();
  }

  #message(): void {
    const received = receiveMessageOnPort(this.#port) as { message: HashSlotsMessage | HashFilesMessage } | undefined;
    if (received === undefined) return;
    const m = received.message;
    if (m.type === 'files') this.#hashFiles(m);
    else this.#reply(m.index, this.#hashSlots(m.kind, m.slots, m.byteLength, m.leafCount, m.stream, m.last), '', '');
  }

  #hashSlots(
    kind: number,
    slots: Int32Array,
    byteLength: number,
    leafCount: number,
    stream: number,
    last: boolean,
  ): Uint8Array {
    if (kind === HashKind.EachSha1) return this.#hashEach(slots, byteLength);
    let digester = stream === 0 ? undefined : this.#streams.get(stream);
    if (digester === undefined) {
      digester = new Digester(kind);
      if (stream !== 0 && !last) this.#streams.set(stream, digester);
    }
    for (let i = 0, left = byteLength; i < slots.length && left > 0; i++, left -= BLOCK_BYTES) {
      digester.update(this.#slot(slots[i]!, left));
    }
    if (stream !== 0 && !last) return EMPTY;
    if (stream !== 0) this.#streams.delete(stream);
    return digester.finish(leafCount);
  }

  #hashEach(slots: Int32Array, byteLength: number): Uint8Array {
    const digests = new Uint8Array(slots.length * 20);
    for (let i = 0, left = byteLength; i < slots.length && left > 0; i++, left -= BLOCK_BYTES) {
      digests.set(hash('sha1', this.#slot(slots[i]!, left), 'buffer'), i * 20);
    }
    return digests;
  }

  #slot(slot: number, left: number): Uint8Array {
    let view = this.#views[slot];
    if (view === undefined) {
      view = new Uint8Array(this.#memory, this.#slotBase + slot * SLOT_STRIDE, BLOCK_BYTES);
      this.#views[slot] = view;
    }
    return left >= BLOCK_BYTES ? view : view.subarray(0, left);
  }

  #hashFiles(m: HashFilesMessage): void {
    if (this.#readBuffer.length === 0) this.#readBuffer = new Uint8Array(new ArrayBuffer(READ_BYTES));
    const total = m.spans.reduce((sum, span) => sum + span.length, 0);
    const size = m.kind === HashKind.Sha1 ? 20 : m.kind === HashKind.Merkle ? 32 : 52;
    const joiner = new PieceJoiner(m.kind, m.pieceLength, m.leafCount, size, Math.ceil(total / m.pieceLength));
    let code = '';
    let message = '';
    for (const span of m.spans) {
      this.#tree.tidy();
      const missing = this.#feed(span, joiner);
      if (missing === null) continue;
      if (code === '') {
        const path = [span.root, ...span.path].join('/');
        const short = missing instanceof ShortFile;
        code = short ? 'EIO_SHORT' : errorCode(missing);
        message = short ? `${path} is shorter than it should be` : faultOf(missing, `read ${path}`).message;
      }
    }
    this.#tree.reset();
    this.#reply(m.index, joiner.finish(), code, message);
  }

  /** Null, or what went wrong; then the pieces that the rest of the span touches are spoiled. */
  #feed(span: HashFileSpan, joiner: PieceJoiner): unknown {
    const buffer = this.#readBuffer;
    let done = 0;
    let fd = -1;
    try {
      if (span.root === null) buffer.fill(0, 0, Math.min(buffer.length, span.length));
      else {
        fd = this.#tree.openFile(folderKey(span.root, span.path), span.path.at(-1)!, OPEN_READ, 0, false);
        if (!fstatSync(fd).isFile()) throw Object.assign(new Error('not a regular file'), { code: 'ENOTREG' });
      }
      while (done < span.length) {
        const want = Math.min(buffer.length, span.length - done);
        const got = fd === -1 ? want : readSync(fd, buffer, 0, want, span.offset + done);
        if (got === 0) throw new ShortFile();
        joiner.update(got === buffer.length ? buffer : buffer.subarray(0, got));
        done += got;
      }
      return null;
    } catch (error) {
      joiner.skip(span.length - done);
      return error;
    } finally {
      if (fd !== -1) closeSync(fd);
    }
  }

  #reply(index: number, digest: Uint8Array, code: string, message: string): void {
    const ring = this.#ring;
    if (code !== '' || digest.length > RING_DIGEST_BYTES) {
      const reply: HashReplyMessage = { index, code, message, digest: new Uint8Array(digest) };
      this.#port.postMessage(reply);
      return;
    }
    const head = Atomics.load(ring, RING_REPLY_HEAD);
    for (;;) {
      const tail = Atomics.load(ring, RING_REPLY_TAIL);
      if (((head - tail) | 0) < RING_REPLY_COUNT) break;
      Atomics.wait(ring, RING_REPLY_TAIL, tail);
    }
    const at = RING_REPLIES + (head & (RING_REPLY_COUNT - 1)) * RING_REPLY_WORDS;
    ring[at] = index;
    ring[at + 1] = digest.length;
    this.#ringBytes.set(digest, (at + 2) * 4);
    Atomics.store(ring, RING_REPLY_HEAD, (head + 1) | 0);
    if (Atomics.exchange(ring, RING_BELL, 1) === 0) this.#port.postMessage(0);
  }
}

class ShortFile extends Error {}

/** Cuts the bytes of the spans into pieces. The digest of a piece that could not be read whole is zeros. */
class PieceJoiner {
  readonly #kind: number;
  readonly #pieceLength: number;
  readonly #leafCount: number;
  readonly #digestBytes: number;
  readonly #digests: Uint8Array;
  #piece = 0;
  #filled = 0;
  #spoiled = false;
  #digester: Digester | null = null;

  constructor(kind: number, pieceLength: number, leafCount: number, digestBytes: number, pieces: number) {
    this.#kind = kind;
    this.#pieceLength = pieceLength;
    this.#leafCount = leafCount;
    this.#digestBytes = digestBytes;
    this.#digests = new Uint8Array(pieces * digestBytes);
  }

  update(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const n = Math.min(this.#pieceLength - this.#filled, bytes.length - at);
      this.#digester ??= new Digester(this.#kind);
      if (!this.#spoiled) this.#digester.update(n === bytes.length ? bytes : bytes.subarray(at, at + n));
      this.#advance(n);
      at += n;
    }
  }

  skip(length: number): void {
    for (let left = length; left > 0; ) {
      const n = Math.min(this.#pieceLength - this.#filled, left);
      this.#spoiled = true;
      this.#advance(n);
      left -= n;
    }
  }

  finish(): Uint8Array {
    if (this.#filled > 0) this.#endPiece();
    return this.#digests;
  }

  #advance(length: number): void {
    this.#filled += length;
    if (this.#filled === this.#pieceLength) this.#endPiece();
  }

  #endPiece(): void {
    if (!this.#spoiled && this.#digester !== null) {
      this.#digests.set(this.#digester.finish(this.#leafCount), this.#piece * this.#digestBytes);
    }
    this.#digester = null;
    this.#spoiled = false;
    this.#filled = 0;
    this.#piece += 1;
  }
}

if (parentPort !== null) new HashWorker(parentPort, workerData as HashWorkerData).run();
