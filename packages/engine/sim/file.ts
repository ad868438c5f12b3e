/**
 * One file of the virtual disk: 16 KiB chunks, each of zeros (not kept), a tag (32 bytes kept) or any bytes. Remembers,
 * per chunk, what stood there at the last sync, so that a power cut can take it back.
 *
 * Invariant: what `read` gives is what was written, byte for byte, whichever way a chunk is kept.
 */

import type { Rng } from '../src/base/random.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { isCompact, isZero, putWords, TAG_BYTES, TAG_WORDS, takeWords } from './content.ts';

const ZERO = 0;
const TAG = 1;
const RAW = 2;

interface Saved {
  readonly form: number;
  readonly content: Int32Array | Uint8Array | null;
}
const SAVED_ZERO: Saved = { form: ZERO, content: null };

export class SimFile {
  readonly inode: number;
  size = 0;
  mtimeMs = 0;
  /** Chunks that take room on the disk. */
  chunkCount = 0;
  /** The whole length is set aside (full preallocation). */
  reserved = false;
  #forms: Uint8Array = new Uint8Array(4);
  #tags: Int32Array = new Int32Array(4 * TAG_WORDS);
  readonly #raw: Map<number, Uint8Array> = new Map();
  /** -1: nothing of it is on the medium. */
  #syncedSize = -1;
  /** What each chunk was before it was written, one map per sync under way, the last one for writes after them. */
  #unsynced: Map<number, Saved>[] = [new Map()];

  constructor(inode: number) {
    this.inode = inode;
  }

  read(offset: number, view: Uint8Array): void {
    let done = 0;
    while (done < view.length) {
      const chunk = Math.floor((offset + done) / BLOCK_BYTES);
      const at = (offset + done) % BLOCK_BYTES;
      const take = Math.min(BLOCK_BYTES - at, view.length - done);
      const form = this.#form(chunk);
      if (form === RAW) view.set(this.#raw.get(chunk)!.subarray(at, at + take), done);
      else {
        view.fill(0, done, done + take);
        if (form === TAG && at === 0) putWords(view, done, this.#tags, chunk * TAG_WORDS, Math.min(TAG_BYTES, take));
        else if (form === TAG && at < TAG_BYTES)
          view.set(this.#rawOf(chunk).subarray(at, Math.min(TAG_BYTES, at + take)), done);
      }
      done += take;
    }
  }

  write(offset: number, view: Uint8Array): void {
    let done = 0;
    while (done < view.length) {
      const chunk = Math.floor((offset + done) / BLOCK_BYTES);
      const at = (offset + done) % BLOCK_BYTES;
      const take = Math.min(BLOCK_BYTES - at, view.length - done);
      this.#save(chunk);
      if (at === 0 && (take === BLOCK_BYTES || offset + done + take >= this.size)) {
        this.#replace(chunk, view, done, take);
      } else {
        const raw = this.#rawOf(chunk);
        raw.set(view.subarray(done, done + take), at);
        this.#setRaw(chunk, raw);
      }
      done += take;
      this.size = Math.max(this.size, offset + done);
    }
  }

  resize(size: number): void {
    if (size < this.size) {
      const first = Math.ceil(size / BLOCK_BYTES);
      for (let chunk = first; chunk * BLOCK_BYTES < this.size; chunk++) {
        this.#save(chunk);
        this.#clear(chunk);
      }
      if (size % BLOCK_BYTES !== 0) {
        const chunk = first - 1;
        this.#save(chunk);
        this.#setRaw(chunk, this.#rawOf(chunk).fill(0, size % BLOCK_BYTES));
      }
    }
    this.size = size;
  }

  /** Whether the chunk is exactly this tag and zeros. */
  isTag(chunk: number, words: Int32Array): boolean {
    if (this.#form(chunk) !== TAG) return false;
    for (let i = 0; i < TAG_WORDS; i++) if (this.#tags[chunk * TAG_WORDS + i] !== words[i]) return false;
    return true;
  }

  /** Chunks of [offset, offset + length) that take no room yet. */
  newChunks(offset: number, length: number): number {
    if (this.reserved) return 0;
    let count = 0;
    const last = Math.floor((offset + length - 1) / BLOCK_BYTES);
    for (let chunk = Math.floor(offset / BLOCK_BYTES); chunk <= last; chunk++) if (this.#form(chunk) === ZERO) count++;
    return count;
  }

  /** A byte goes bad on the medium, unseen. */
  rot(offset: number): void {
    const chunk = Math.floor(offset / BLOCK_BYTES);
    const raw = this.#rawOf(chunk);
    raw[offset % BLOCK_BYTES]! ^= 0x5a;
    this.#setRaw(chunk, raw);
  }

  /** A sync begins; what is written from now on is not part of it. Returns its number for `synced`. */
  syncBegins(): Map<number, Saved> {
    const covered = this.#unsynced[this.#unsynced.length - 1]!;
    this.#unsynced.push(new Map());
    return covered;
  }

  synced(covered: Map<number, Saved>, size: number): void {
    const at = this.#unsynced.indexOf(covered);
    if (at >= 0) this.#unsynced.splice(0, at + 1);
    this.#syncedSize = Math.max(this.#syncedSize, Math.min(size, this.size));
  }

  /** Everything is on the medium. */
  settle(): void {
    this.#unsynced = [new Map()];
    this.#syncedSize = this.size;
  }

  /** Each chunk not synced is kept or lost as drawn. False: the file itself is gone. */
  powerCut(rng: Rng): boolean {
    for (let i = this.#unsynced.length - 1; i >= 0; i--) {
      for (const [chunk, saved] of this.#unsynced[i]!) if (rng.below(2) === 0) this.#restore(chunk, saved);
    }
    this.#unsynced = [new Map()];
    if (rng.below(2) === 0) {
      if (this.#syncedSize < 0) return false;
      if (this.#syncedSize < this.size) this.resize(this.#syncedSize);
    }
    this.settle();
    return true;
  }

  #form(chunk: number): number {
    return chunk < this.#forms.length ? this.#forms[chunk]! : ZERO;
  }

  #replace(chunk: number, view: Uint8Array, at: number, length: number): void {
    if (isCompact(view, at, length)) {
      this.#setForm(chunk, TAG);
      takeWords(view, at, this.#tags, chunk * TAG_WORDS);
      this.#raw.delete(chunk);
    } else if (isZero(view, at, length)) {
      // real zeros take room, as they do on a real disk; the content is that of a hole
      this.#setRaw(chunk, new Uint8Array(BLOCK_BYTES));
    } else {
      const raw = new Uint8Array(BLOCK_BYTES);
      raw.set(view.subarray(at, at + length));
      this.#setRaw(chunk, raw);
    }
  }

  #rawOf(chunk: number): Uint8Array {
    const form = this.#form(chunk);
    if (form === RAW) return this.#raw.get(chunk)!;
    const raw = new Uint8Array(BLOCK_BYTES);
    if (form === TAG) putWords(raw, 0, this.#tags, chunk * TAG_WORDS, TAG_BYTES);
    return raw;
  }

  #setRaw(chunk: number, raw: Uint8Array): void {
    this.#setForm(chunk, RAW);
    this.#raw.set(chunk, raw);
  }

  #clear(chunk: number): void {
    if (this.#form(chunk) === ZERO) return;
    this.#forms[chunk] = ZERO;
    this.#raw.delete(chunk);
    this.chunkCount--;
  }

  #setForm(chunk: number, form: number): void {
    if (chunk >= this.#forms.length) this.#grow(chunk + 1);
    if (this.#forms[chunk] === ZERO) this.chunkCount++;
    this.#forms[chunk] = form;
  }

  #grow(chunks: number): void {
    const length = Math.max(chunks, this.#forms.length * 2);
    const forms = new Uint8Array(length);
    forms.set(this.#forms);
    this.#forms = forms;
    const tags = new Int32Array(length * TAG_WORDS);
    tags.set(this.#tags);
    this.#tags = tags;
  }

  #save(chunk: number): void {
    const map = this.#unsynced[this.#unsynced.length - 1]!;
    if (map.has(chunk)) return;
    const form = this.#form(chunk);
    if (form === ZERO) map.set(chunk, SAVED_ZERO);
    else if (form === TAG)
      map.set(chunk, { form, content: this.#tags.slice(chunk * TAG_WORDS, (chunk + 1) * TAG_WORDS) });
    else map.set(chunk, { form, content: this.#raw.get(chunk)!.slice() });
  }

  #restore(chunk: number, saved: Saved): void {
    if (saved.content === null) this.#clear(chunk);
    else if (saved.content instanceof Int32Array) {
      this.#setForm(chunk, TAG);
      this.#raw.delete(chunk);
      this.#tags.set(saved.content, chunk * TAG_WORDS);
    } else {
      this.#setRaw(chunk, saved.content);
    }
  }
}
