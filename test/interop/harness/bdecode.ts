/** Reads bencoding without Shoal: what is checked must not be read by the code under test. Strings stay bytes. */

export type Bvalue = number | Buffer | Bvalue[] | Bdict;
export interface Bdict {
  readonly [key: string]: Bvalue;
}

/** Keys as latin1. Throws on what is not exactly one value. */
export function decode(bytes: Buffer): Bvalue {
  const reader = new Reader(bytes);
  const value = reader.value();
  if (reader.at !== bytes.length) throw new Error(`${bytes.length - reader.at} bytes after the value`);
  return value;
}

export function isDict(value: Bvalue | undefined): value is Bdict {
  return typeof value === 'object' && !Array.isArray(value) && !Buffer.isBuffer(value);
}

class Reader {
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  value(): Bvalue {
    const first = String.fromCharCode(this.#bytes[this.at] ?? 0);
    if (first === 'i') return this.#number('i', 'e');
    if (first === 'l') {
      this.at++;
      const list: Bvalue[] = [];
      while (!this.#ends()) list.push(this.value());
      return list;
    }
    if (first === 'd') {
      this.at++;
      const dict: Record<string, Bvalue> = {};
      while (!this.#ends()) dict[this.#string().toString('latin1')] = this.value();
      return dict;
    }
    return this.#string();
  }

  #ends(): boolean {
    if (this.at >= this.#bytes.length) throw new Error('the value is cut off');
    if (this.#bytes[this.at] !== 0x65) return false;
    this.at++;
    return true;
  }

  #string(): Buffer {
    const length = this.#number('', ':');
    const string = this.#bytes.subarray(this.at, this.at + length);
    if (length < 0 || string.length !== length) throw new Error('a string is cut off');
    this.at += length;
    return string;
  }

  #number(before: string, after: string): number {
    const end = this.#bytes.indexOf(after, this.at);
    const text = this.#bytes.subarray(this.at + before.length, end).toString('latin1');
    if (end < 0 || !/^(0|-?[1-9]\d*)$/.test(text)) throw new Error(`not a number at ${this.at}`);
    this.at = end + 1;
    return Number(text);
  }
}
