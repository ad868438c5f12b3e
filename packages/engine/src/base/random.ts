/**
 * Random numbers wholly determined by their seed (xoshiro128**, Blackman and Vigna): picks, shuffles, jitter. Not for
 * keys, tokens or ids that an attacker gains by guessing; those come from the Random port.
 */

import { assert } from './assert.ts';

export class Rng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** Four words of seed, or who fills them (the Random port). */
  constructor(seed: Uint32Array | { fill(target: Uint8Array): void }) {
    const words = new Uint32Array(4);
    if (seed instanceof Uint32Array) {
      assert(seed.length === 4, 'a seed is 4 words');
      words.set(seed);
    } else {
      seed.fill(new Uint8Array(words.buffer));
    }
    // the state of all zeros never leaves itself
    if ((words[0]! | words[1]! | words[2]! | words[3]!) === 0) words[0] = 1;
    this.#a = words[0]! | 0;
    this.#b = words[1]! | 0;
    this.#c = words[2]! | 0;
    this.#d = words[3]! | 0;
  }

  /** 0 .. 2^32 - 1. */
  u32(): number {
    const b = this.#b;
    const scrambled = Math.imul(rotl(Math.imul(b, 5), 7), 9);
    const c = this.#c ^ this.#a;
    const d = this.#d ^ b;
    this.#b = b ^ c;
    this.#a ^= d;
    this.#c = c ^ (b << 9);
    this.#d = rotl(d, 11);
    return scrambled >>> 0;
  }

  /** 0 .. n - 1, without bias; n from 1 to 2^32. */
  below(n: number): number {
    assert(n >= 1 && n <= 0x100000000, 'below needs 1 .. 2^32');
    const limit = 0x100000000 - (0x100000000 % n);
    let drawn = this.u32();
    while (drawn >= limit) drawn = this.u32();
    return drawn % n;
  }

  /** 0 <= x < 1, 53 bits. */
  float(): number {
    const high = this.u32() >>> 5;
    const low = this.u32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** In place (Fisher and Yates). */
  shuffle<T>(array: T[]): void;
  shuffle(array: Int32Array): void;
  shuffle<T>(array: T[] | Int32Array): void {
    const a = array as T[];
    for (let i = a.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = a[i]!;
      a[i] = a[j]!;
      a[j] = held;
    }
  }

  fill(target: Uint8Array): void {
    for (let i = 0; i < target.length; i += 4) {
      const word = this.u32();
      target[i] = word;
      if (i + 1 < target.length) target[i + 1] = word >>> 8;
      if (i + 2 < target.length) target[i + 2] = word >>> 16;
      if (i + 3 < target.length) target[i + 3] = word >>> 24;
    }
  }
}

function rotl(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}
