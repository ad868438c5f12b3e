/**
 * The reading stage of bencoding: checks bytes against the grammar and notes where each token stands.
 *
 *     cells[2t]      where token t begins
 *     cells[2t + 1]  string: where its data begins; integer: where it ends; 'd' and 'l': the token after its 'e';
 *                    'e': 0
 *
 * The token after a string or an integer is t + 1; a container's 'e' is a token of its own, the one before
 * cells[2t + 1]. A tape borrows the bytes it was made from.
 */

import { latin1, plainView } from '../base/bytes.ts';
import { COLON, D, E, I, L, MINUS, NINE, ZERO } from './bencode-bytes.ts';

export interface BencodeLimits {
  /** Containers inside each other; default 100. */
  readonly depth?: number;
  /** Values, keys and ends; default 3,000,000. */
  readonly tokens?: number;
  /** Refuse dictionaries whose keys are not strictly ascending. */
  readonly canonical?: boolean;
}

/** Not bencoding, or past a limit. `offset`: the byte where reading stopped. */
export class BencodeError extends Error {
  readonly offset: number;

  constructor(what: string, offset: number) {
    super(`${what} at byte ${offset}`);
    this.name = 'BencodeError';
    this.offset = offset;
  }
}

/** Checks that `bytes` are exactly one value. */
export function scan(bytes: Uint8Array, limits?: BencodeLimits): Tape {
  const tape = scanPrefix(bytes, limits);
  const end = tape.end(0);
  if (end !== bytes.length) throw new BencodeError('bytes after the end of the value', end);
  return tape;
}

/** Checks the one value that `bytes` begin with; `tape.end(0)` is where it ends. */
export function scanPrefix(bytes: Uint8Array, limits?: BencodeLimits): Tape {
  bytes = plainView(bytes);
  const scanner = new Scanner(bytes, limits?.depth ?? 100, limits?.tokens ?? 3_000_000);
  scanner.run();
  if (limits?.canonical === true && scanner.disorder >= 0) {
    throw new BencodeError('dictionary keys not in ascending order', scanner.disorder);
  }
  return new Tape(bytes, scanner.cells, scanner.count, scanner.disorder);
}

export class Tape {
  readonly bytes: Uint8Array;
  /** Tokens. */
  readonly count: number;
  /** Byte offset of the first key that is not above the key before it, or -1. */
  readonly disorder: number;
  readonly #cells: Int32Array;

  constructor(bytes: Uint8Array, cells: Int32Array, count: number, disorder: number) {
    this.bytes = bytes;
    this.count = count;
    this.disorder = disorder;
    this.#cells = cells;
  }

  isDict(t: number): boolean {
    return this.#first(t) === D;
  }

  isList(t: number): boolean {
    return this.#first(t) === L;
  }

  isInt(t: number): boolean {
    return this.#first(t) === I;
  }

  isString(t: number): boolean {
    const c = this.#first(t);
    return c >= ZERO && c <= NINE;
  }

  /** Whether t is the 'e' that closes a container: the end of walking it. */
  isEnd(t: number): boolean {
    return this.#first(t) === E;
  }

  /** The token after this whole value. */
  next(t: number): number {
    const c = this.#first(t);
    return c === D || c === L ? this.#cells[2 * t + 1]! : t + 1;
  }

  /** First byte of the value. */
  start(t: number): number {
    return this.#cells[2 * t]!;
  }

  /** The byte after the value. */
  end(t: number): number {
    const c = this.#first(t);
    if (c === D || c === L) return this.#cells[2 * (this.#cells[2 * t + 1]! - 1)]! + 1;
    if (c === I) return this.#cells[2 * t + 1]!;
    return c === E ? this.start(t) + 1 : this.dataStart(t) + this.length(t);
  }

  /** First byte of a string's data. */
  dataStart(t: number): number {
    return this.#cells[2 * t + 1]!;
  }

  /** Bytes of a string's data. */
  length(t: number): number {
    let length = 0;
    const colon = this.#cells[2 * t + 1]! - 1;
    for (let i = this.#cells[2 * t]!; i < colon; i++) length = length * 10 + this.bytes[i]! - ZERO;
    return length;
  }

  /** A string's data, as a view. */
  string(t: number): Uint8Array {
    const from = this.dataStart(t);
    return this.bytes.subarray(from, from + this.length(t));
  }

  /** An integer's value: a number when exact, else a bigint. */
  int(t: number): number | bigint {
    const from = this.#cells[2 * t]! + 1;
    const to = this.#cells[2 * t + 1]! - 1;
    if (to - from > 16) {
      const big = BigInt(latin1(this.bytes.subarray(from, to)));
      return big >= MIN_SAFE && big <= MAX_SAFE ? Number(big) : big;
    }
    // at most 16 characters: below 10^16, so only values past 2^53 need another look
    const negative = this.bytes[from] === MINUS;
    let value = 0;
    for (let i = negative ? from + 1 : from; i < to; i++) value = value * 10 + (this.bytes[i]! - ZERO);
    if (value > Number.MAX_SAFE_INTEGER) return BigInt(latin1(this.bytes.subarray(from, to)));
    return negative ? -value : value;
  }

  /** Values of a container; of a dictionary, pairs. */
  size(t: number): number {
    let n = 0;
    for (let at = t + 1; !this.isEnd(at); at = this.next(at)) n++;
    return this.isDict(t) ? n / 2 : n;
  }

  /** The value of a dictionary's key (ASCII), the first if double; -1 when missing. */
  find(dict: number, key: string): number {
    for (let at = dict + 1; !this.isEnd(at); at = this.next(at + 1)) {
      if (this.isText(at, key)) return at + 1;
    }
    return -1;
  }

  /** Whether a string token is this ASCII text. */
  isText(t: number, text: string): boolean {
    if (this.length(t) !== text.length) return false;
    const from = this.dataStart(t);
    for (let i = 0; i < text.length; i++) if (this.bytes[from + i] !== text.charCodeAt(i)) return false;
    return true;
  }

  #first(t: number): number {
    return this.bytes[this.#cells[2 * t]!]!;
  }
}

const MIN_SAFE = BigInt(Number.MIN_SAFE_INTEGER);
const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);
const MIN_INT64 = -(2n ** 63n);
const MAX_UINT64 = 2n ** 64n - 1n;

class Scanner {
  cells: Int32Array;
  count = 0;
  disorder = -1;
  readonly #bytes: Uint8Array;
  readonly #maxTokens: number;
  readonly #maxDepth: number;
  /** Per open container: its token, and for a dictionary its last key's token (-1: none yet; -2: a list). */
  readonly #open: Int32Array;
  readonly #lastKey: Int32Array;

  constructor(bytes: Uint8Array, maxDepth: number, maxTokens: number) {
    this.#bytes = bytes;
    this.#maxTokens = maxTokens;
    this.#maxDepth = maxDepth;
    this.cells = new Int32Array(2 * Math.min(bytes.length + 1, 64));
    this.#open = new Int32Array(maxDepth);
    this.#lastKey = new Int32Array(maxDepth);
  }

  run(): void {
    const bytes = this.#bytes;
    let depth = 0;
    let at = 0;
    /** In a dictionary: a key was read, its value comes next. */
    let valueDue = false;
    do {
      if (at >= bytes.length) throw new BencodeError('the data ends inside a value', at);
      const c = bytes[at]!;
      const inDict = depth > 0 && this.#lastKey[depth - 1]! !== -2;
      if (c === E && depth > 0) {
        if (valueDue) throw new BencodeError('a dictionary key without a value', at);
        this.#add(at, 0);
        this.cells[2 * this.#open[--depth]! + 1] = this.count;
        at++;
        valueDue = false;
        continue;
      }
      if (c >= ZERO && c <= NINE) {
        const token = this.count;
        at = this.#string(at);
        if (inDict && !valueDue) {
          this.#order(depth - 1, token);
          valueDue = true;
          continue;
        }
      } else if (inDict && !valueDue) {
        throw new BencodeError('a dictionary key that is no string', at);
      } else if (c === I) {
        at = this.#int(at);
      } else if (c === D || c === L) {
        if (depth === this.#maxDepth) throw new BencodeError(`nested more than ${this.#maxDepth} deep`, at);
        this.#open[depth] = this.count;
        this.#lastKey[depth++] = c === D ? -1 : -2;
        this.#add(at, 0);
        at++;
      } else {
        throw new BencodeError('no value begins like this', at);
      }
      valueDue = false;
    } while (depth > 0);
  }

  #add(start: number, second: number): void {
    if (this.count === this.#maxTokens) throw new BencodeError(`more than ${this.#maxTokens} tokens`, start);
    if (2 * this.count === this.cells.length) {
      const bigger = new Int32Array(this.cells.length * 2);
      bigger.set(this.cells);
      this.cells = bigger;
    }
    this.cells[2 * this.count] = start;
    this.cells[2 * this.count + 1] = second;
    this.count++;
  }

  /** Reads a string from its first digit on; returns the byte after it. */
  #string(start: number): number {
    const bytes = this.#bytes;
    let at = start;
    let length = 0;
    let c = bytes[at]!;
    while (c >= ZERO && c <= NINE) {
      if (at > start && length === 0) throw new BencodeError('a string length with a leading zero', start);
      length = length * 10 + c - ZERO;
      if (length > bytes.length) throw new BencodeError('a string longer than the data', start);
      c = bytes[++at] ?? 0;
    }
    if (c !== COLON) throw new BencodeError("a string length without ':'", at);
    at++;
    if (length > bytes.length - at) throw new BencodeError('a string longer than the data', start);
    this.#add(start, at);
    return at + length;
  }

  /** Reads an integer from its 'i' on; returns the byte after its 'e'. */
  #int(start: number): number {
    const bytes = this.#bytes;
    let at = start + 1;
    const negative = bytes[at] === MINUS;
    if (negative) at++;
    const first = at;
    let c = bytes[at] ?? 0;
    while (c >= ZERO && c <= NINE) {
      // 20 digits hold every 64-bit integer; more need not be looked at
      if (at - first === 20) throw new BencodeError('an integer of more than 64 bits', start);
      c = bytes[++at] ?? 0;
    }
    if (c !== E || at === first) throw new BencodeError('an integer that is none', start);
    if (bytes[first] === ZERO && (negative || at - first > 1)) {
      throw new BencodeError(negative ? 'a negative zero' : 'an integer with a leading zero', start);
    }
    if (at - first >= 19) {
      const big = BigInt(latin1(bytes.subarray(start + 1, at)));
      if (big < MIN_INT64 || big > MAX_UINT64) throw new BencodeError('an integer of more than 64 bits', start);
    }
    this.#add(start, at + 1);
    return at + 1;
  }

  /** Notes whether a key comes after the one before it. */
  #order(level: number, token: number): void {
    const last = this.#lastKey[level]!;
    this.#lastKey[level] = token;
    if (last < 0 || this.disorder >= 0) return;
    const bytes = this.#bytes;
    const a = this.cells[2 * last + 1]!;
    const b = this.cells[2 * token + 1]!;
    const aLength = this.#dataLength(last);
    const bLength = this.#dataLength(token);
    const shorter = Math.min(aLength, bLength);
    let i = 0;
    while (i < shorter && bytes[a + i] === bytes[b + i]) i++;
    const ascending = i < shorter ? bytes[a + i]! < bytes[b + i]! : aLength < bLength;
    if (!ascending) this.disorder = this.cells[2 * token]!;
  }

  #dataLength(token: number): number {
    let length = 0;
    const colon = this.cells[2 * token + 1]! - 1;
    for (let i = this.cells[2 * token]!; i < colon; i++) length = length * 10 + this.#bytes[i]! - ZERO;
    return length;
  }
}
