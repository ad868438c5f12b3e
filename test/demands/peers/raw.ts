/** A stranger on a real socket: says what it is told, legal or not, and notes what comes back and when it is hung up on. */

import { connect, type Socket } from 'node:net';

export const Id = {
  Choke: 0,
  Unchoke: 1,
  Interested: 2,
  NotInterested: 3,
  Have: 4,
  Bitfield: 5,
  Request: 6,
  Piece: 7,
  Cancel: 8,
  Port: 9,
  Suggest: 13,
  HaveAll: 14,
  HaveNone: 15,
  Reject: 16,
  AllowedFast: 17,
  Extended: 20,
} as const;

let nextPeer = 1;

export class Stranger {
  readonly socket: Socket;
  /** How many messages of each number came; 255: keep-alives. */
  readonly heard: number[] = new Array<number>(256).fill(0);
  payloadBytes = 0;
  openedAtMs = 0;
  /** 0: the connection is up. */
  closedAtMs = 0;
  greeted = false;
  readonly opened: Promise<void>;
  readonly closed: Promise<void>;
  #rest: Buffer = Buffer.alloc(0);
  #skip = 0;
  readonly #waiting: { test: () => boolean; done: () => void }[] = [];

  /** `from`: an address of 127.0.0.0/8 to come from. */
  constructor(address: string, from = '127.0.0.1') {
    const [host, port] = address.split(':');
    this.socket = connect({ host: host!, port: Number(port), localAddress: from, noDelay: true });
    this.opened = new Promise((resolve) => {
      this.socket.once('connect', () => {
        this.openedAtMs = performance.now();
        resolve();
      });
    });
    this.closed = new Promise((resolve) => {
      this.socket.on('close', () => {
        this.closedAtMs = performance.now();
        this.#look();
        resolve();
      });
    });
    this.socket.on('error', () => {});
    this.socket.on('data', (bytes) => this.#hear(bytes));
  }

  get isOpen(): boolean {
    return this.closedAtMs === 0;
  }

  raw(bytes: Uint8Array): boolean {
    return this.socket.writable && this.socket.write(bytes);
  }

  send(id: number, ...parts: (number | Uint8Array)[]): boolean {
    return this.raw(message(id, ...parts));
  }

  /** Both handshakes, an extension handshake, and have none. */
  async greet(infoHash: string, options: { fast?: boolean; has?: Uint8Array } = {}): Promise<this> {
    await this.opened;
    this.raw(handshake(infoHash, options));
    if (options.has !== undefined) this.raw(options.has);
    else if (options.fast ?? true) this.send(Id.HaveNone);
    await this.until(() => this.greeted, 5000);
    return this;
  }

  /** Asks to be served, and waits until it is. */
  async unchoked(): Promise<this> {
    this.send(Id.Interested);
    await this.until(() => this.heard[Id.Unchoke]! > 0, 15_000);
    return this;
  }

  /** Resolves when the test holds; rejects when the connection ends before, or after `limitMs`. */
  async until(test: () => boolean, limitMs: number): Promise<void> {
    if (test()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not within ${limitMs} ms: ${test}`)), limitMs);
      this.#waiting.push({
        test: () => test() || this.closedAtMs > 0,
        done: () => {
          clearTimeout(timer);
          if (test()) resolve();
          else reject(new Error(`hung up on before: ${test}`));
        },
      });
    });
  }

  /** Writes as fast as the other side takes it, for so long; false: it hung up. */
  async pour(chunk: () => Uint8Array, forMs: number, mostBytes = Infinity): Promise<boolean> {
    const end = performance.now() + forMs;
    let sent = 0;
    while (this.isOpen && performance.now() < end && sent < mostBytes) {
      const bytes = chunk();
      sent += bytes.length;
      if (!this.raw(bytes)) {
        await Promise.race([new Promise((resolve) => this.socket.once('drain', resolve)), this.closed, sleep(100)]);
      } else await sleep(0);
    }
    return this.isOpen;
  }

  close(): void {
    this.socket.destroy();
  }

  #hear(bytes: Buffer): void {
    const skipped = Math.min(this.#skip, bytes.length);
    this.#skip -= skipped;
    if (skipped < bytes.length) this.#rest = Buffer.concat([this.#rest, bytes.subarray(skipped)]);
    if (!this.greeted && this.#rest.length >= 68) {
      this.greeted = true;
      this.#rest = this.#rest.subarray(68);
    }
    while (this.greeted && this.#rest.length >= 4) {
      const length = this.#rest.readUInt32BE(0);
      if (length > 0 && this.#rest.length < 5) break;
      const id = length === 0 ? 255 : this.#rest[4]!;
      this.heard[id]! += 1;
      if (id === Id.Piece) this.payloadBytes += length - 9;
      this.#skip = Math.max(0, 4 + length - this.#rest.length);
      this.#rest = this.#rest.subarray(Math.min(this.#rest.length, 4 + length));
    }
    this.#look();
  }

  #look(): void {
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      if (this.#waiting[i]!.test()) this.#waiting.splice(i, 1)[0]!.done();
    }
  }
}

/** Of the group of Message Stream Encryption, whose generator is 2. */
export const MSE_PRIME: Buffer = Buffer.from(
  'ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74' +
    '020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437' +
    '4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563',
  'hex',
);

export function message(id: number, ...parts: (number | Uint8Array)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'number' ? u32(part) : part)));
  return Buffer.concat([u32(1 + body.length), Buffer.from([id]), body]);
}

export function extended(id: number, body: string | Uint8Array): Buffer {
  return message(Id.Extended, Buffer.from([id]), typeof body === 'string' ? Buffer.from(body) : body);
}

export function handshake(infoHash: string, options: { fast?: boolean } = {}): Buffer {
  const bytes = Buffer.alloc(68);
  bytes.write('\x13BitTorrent protocol', 'latin1');
  bytes[25] = 0x10;
  if (options.fast ?? true) bytes[27] = 0x04;
  bytes.write(infoHash, 28, 'hex');
  bytes.write(`-RW0001-${String(nextPeer++).padStart(12, '0')}`, 48);
  return bytes;
}

/** The same message, or several in turn, as one buffer. */
export function many(count: number, one: (n: number) => Uint8Array): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, n) => one(n)));
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
