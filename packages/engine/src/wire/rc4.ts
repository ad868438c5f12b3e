/**
 * The RC4 stream cipher as Message Stream Encryption uses it: obfuscation, no secrecy. The first 1,024 bytes of the key
 * stream are thrown away.
 *
 * OpenSSL 3 refuses it. What lies in the memory of the slots goes by the kernel that the host has for it, the rest by
 * script. There, four bytes of key stream are laid over at once: reading and writing the data byte by byte costs three
 * times what the cipher itself does. A state of 32-bit numbers is faster than one of bytes.
 */

import { RC4_ROUND, type Rc4Kernel, type SlotPool } from '../base/slot-pool.ts';

const DISCARD_BYTES = 1024;
/** Shorter ones are not worth a view of words. */
const LEAST_BY_WORDS = 64;
/** Shorter ones are not worth taking the state to the kernel and back. */
const LEAST_BY_KERNEL = 512;
const LITTLE_ENDIAN: boolean = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

export class Rc4 {
  readonly #state: Uint32Array = new Uint32Array(256);
  readonly #slots: SlotPool | null;
  #i = 0;
  #j = 0;

  /** `slots`: where the data mostly lie. */
  constructor(key: Uint8Array, slots: SlotPool | null = null) {
    this.#slots = slots;
    const s = this.#state;
    for (let i = 0; i < 256; i++) s[i] = i;
    let j = 0;
    for (let i = 0; i < 256; i++) {
      const x = s[i]!;
      j = (j + x + key[i % key.length]!) & 255;
      s[i] = s[j]!;
      s[j] = x;
    }
    const scratch = new Uint8Array(DISCARD_BYTES);
    this.crypt(scratch, 0, scratch, 0, DISCARD_BYTES);
  }

  /**
   * target[to..] = source[from..from+length) with the key stream laid over it; both may be the same bytes. Fastest where both
   * lie in the memory of the slots.
   */
  crypt(target: Uint8Array, to: number, source: Uint8Array, from: number, length: number): void {
    const slots = this.#slots;
    if (slots !== null && slots.rc4 !== null && length >= LEAST_BY_KERNEL) {
      if (target.buffer === slots.buffer && source.buffer === slots.buffer) {
        return this.#byKernel(slots.rc4, target, to, source, from, length);
      }
    }
    if (length < LEAST_BY_WORDS || !LITTLE_ENDIAN) return this.#byBytes(target, to, source, from, length);
    const head = -(target.byteOffset + to) & 3;
    this.#byBytes(target, to, source, from, head);
    const words = (length - head) >>> 2;
    const done = head + 4 * words;
    const into = new Int32Array(target.buffer, target.byteOffset + to + head, words);
    const out = source.byteOffset + from + head;
    if (target === source && to === from) this.#byWords(into, into);
    else if ((out & 3) === 0) this.#byWords(into, new Int32Array(source.buffer, out, words));
    else {
      target.set(source.subarray(from + head, from + done), to + head);
      this.#byWords(into, into);
    }
    this.#byBytes(target, to + done, source, from + done, length - done);
  }

  #byKernel(kernel: Rc4Kernel, target: Uint8Array, to: number, source: Uint8Array, from: number, length: number): void {
    const head = -(this.#i + 1) & (RC4_ROUND - 1);
    this.#byBytes(target, to, source, from, head);
    const most = (length - head) & -RC4_ROUND;
    const ours = this.#state;
    const { state } = kernel;
    for (let k = 0; k < 256; k++) state[k] = ours[k]! << 2;
    const i = (this.#i + 1) & 255;
    const into = target.byteOffset + to + head;
    this.#j = kernel.run(i << 2, this.#j << 2, into, source.byteOffset + from + head, most) >>> 2;
    this.#i = (this.#i + most) & 255;
    for (let k = 0; k < 256; k++) ours[k] = state[k]! >>> 2;
    const done = head + most;
    this.#byBytes(target, to + done, source, from + done, length - done);
  }

  #byWords(target: Int32Array, source: Int32Array): void {
    const s = this.#state;
    let i = this.#i;
    let j = this.#j;
    let x = 0;
    let y = 0;
    let key = 0;
    for (let at = 0; at < target.length; at++) {
      i = (i + 1) & 255;
      x = s[i]!;
      j = (j + x) & 255;
      y = s[j]!;
      s[i] = y;
      s[j] = x;
      key = s[(x + y) & 255]!;

      i = (i + 1) & 255;
      x = s[i]!;
      j = (j + x) & 255;
      y = s[j]!;
      s[i] = y;
      s[j] = x;
      key |= s[(x + y) & 255]! << 8;

      i = (i + 1) & 255;
      x = s[i]!;
      j = (j + x) & 255;
      y = s[j]!;
      s[i] = y;
      s[j] = x;
      key |= s[(x + y) & 255]! << 16;

      i = (i + 1) & 255;
      x = s[i]!;
      j = (j + x) & 255;
      y = s[j]!;
      s[i] = y;
      s[j] = x;
      key |= s[(x + y) & 255]! << 24;
      target[at] = source[at]! ^ key;
    }
    this.#i = i;
    this.#j = j;
  }

  #byBytes(target: Uint8Array, to: number, source: Uint8Array, from: number, length: number): void {
    const s = this.#state;
    const end = from + length;
    const shift = to - from;
    let i = this.#i;
    let j = this.#j;
    for (let at = from; at < end; at++) {
      i = (i + 1) & 255;
      const x = s[i]!;
      j = (j + x) & 255;
      const y = s[j]!;
      s[i] = y;
      s[j] = x;
      target[at + shift] = source[at]! ^ s[(x + y) & 255]!;
    }
    this.#i = i;
    this.#j = j;
  }
}
