/**
 * The RC4 stream cipher as Message Stream Encryption uses it: obfuscation, no secrecy. The first 1,024 bytes of the key
 * stream are thrown away.
 *
 * In script, since OpenSSL 3 refuses it; WebAssembly was tried and is no faster: each byte waits for the one before.
 */

const DISCARD_BYTES = 1024;

export class Rc4 {
  readonly #state: Uint8Array = new Uint8Array(256);
  #i = 0;
  #j = 0;

  constructor(key: Uint8Array) {
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

  /** target[to..] = source[from..from+length) with the key stream laid over it; the same array may be both. */
  crypt(target: Uint8Array, to: number, source: Uint8Array, from: number, length: number): void {
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
