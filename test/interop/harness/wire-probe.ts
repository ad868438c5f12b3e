/** A peer that asks for nothing and only listens: what does the other claim to have, from the first bitfield on? */

import { PeerSocket } from './peer-socket.ts';
import { until } from './wait.ts';

/** Fast extension (BEP 6): an answer comes even where nothing is had. */
const RESERVED = '0000000000000004';
const PEER_ID = '-XX0001-listensonly0';

const HAVE = 4;
const BITFIELD = 5;
const HAVE_ALL = 14;
const HAVE_NONE = 15;

export class WireProbe {
  /** What it said it has, by piece: when (performance.now) it was heard. */
  readonly heardMs = new Map<number, number>();
  /** The first word is in. */
  spoke = false;
  readonly #pieceCount: number;
  readonly #socket: PeerSocket;

  constructor(host: string, port: number, localAddress: string, infoHash: string, pieceCount: number) {
    this.#pieceCount = pieceCount;
    const onMessage = (message: Buffer) => this.#message(message);
    this.#socket = new PeerSocket({
      host,
      port,
      localAddress,
      infoHash,
      reserved: RESERVED,
      peerId: PEER_ID,
      onMessage,
    });
    this.#socket.send(HAVE_NONE);
  }

  async first(timeoutMs: number): Promise<void> {
    await until('the peer says what it has', () => this.spoke || this.closed, { timeoutMs, everyMs: 5 });
    if (!this.spoke) throw new Error('the peer closed the connection before it said what it has');
  }

  get closed(): boolean {
    return this.#socket.closed;
  }

  close(): void {
    this.#socket.close();
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
