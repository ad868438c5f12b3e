/** A peer that asks for nothing and only listens: what does the other claim to have, from the first bitfield on? */

import { connect, type Socket } from 'node:net';
import { until } from './wait.ts';

const HANDSHAKE_BYTES = 68;
const PROTOCOL = '\x13BitTorrent protocol';
/** Fast extension (BEP 6): an answer comes even where nothing is had. */
const RESERVED = Buffer.from('0000000000000004', 'hex');

const HAVE = 4;
const BITFIELD = 5;
const HAVE_ALL = 14;
const HAVE_NONE = 15;

export class WireProbe {
  /** What it said it has, by piece: when (performance.now) it was heard. */
  readonly heardMs = new Map<number, number>();
  /** The first word is in. */
  spoke = false;
  closed = false;
  readonly #pieceCount: number;
  readonly #socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #greeted = false;

  constructor(host: string, port: number, localAddress: string, infoHash: string, pieceCount: number) {
    this.#pieceCount = pieceCount;
    this.#socket = connect({ host, port, localAddress });
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      this.closed = true;
    });
    this.#socket.on('data', (bytes) => this.#receive(bytes));
    const id = '-XX0001-listensonly0';
    this.#socket.write(Buffer.concat([latin1(PROTOCOL), RESERVED, Buffer.from(infoHash, 'hex'), latin1(id)]));
    this.#socket.write(Buffer.from([0, 0, 0, 1, HAVE_NONE]));
  }

  async first(timeoutMs: number): Promise<void> {
    await until('the peer says what it has', () => this.spoke || this.closed, { timeoutMs, everyMs: 5 });
    if (!this.spoke) throw new Error('the peer closed the connection before it said what it has');
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(bytes: Buffer): void {
    let rest = Buffer.concat([this.#rest, bytes]);
    if (!this.#greeted && rest.length >= HANDSHAKE_BYTES) {
      this.#greeted = true;
      rest = rest.subarray(HANDSHAKE_BYTES);
    }
    while (this.#greeted && rest.length >= 4) {
      const length = rest.readUInt32BE(0);
      if (rest.length < 4 + length) break;
      if (length > 0) this.#message(rest.subarray(4, 4 + length));
      rest = rest.subarray(4 + length);
    }
    this.#rest = rest;
  }

  #message(message: Buffer): void {
    const now = performance.now();
    const heard = (piece: number): void => {
      if (!this.heardMs.has(piece)) this.heardMs.set(piece, now);
    };
    switch (message[0]) {
      case HAVE:
        heard(message.readUInt32BE(1));
        break;
      case BITFIELD:
        for (let p = 0; p < this.#pieceCount; p++) if ((message[1 + (p >> 3)]! >> (7 - (p & 7))) & 1) heard(p);
        break;
      case HAVE_ALL:
        for (let p = 0; p < this.#pieceCount; p++) heard(p);
        break;
      case HAVE_NONE:
        break;
      default:
        return;
    }
    this.spoke = true;
  }
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}
