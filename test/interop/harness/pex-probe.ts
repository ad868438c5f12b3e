/** A peer that can do ut_pex (BEP 11) and nothing else, and counts what it is told. */

import { connect, type Socket } from 'node:net';
import { type Bdict, decode, isDict } from './bdecode.ts';
import { encode } from './torrent.ts';

const HANDSHAKE_BYTES = 68;
const PROTOCOL = '\x13BitTorrent protocol';
/** Extension protocol (BEP 10), DHT (BEP 5), fast extension (BEP 6). */
const RESERVED = Buffer.from('0000000000100005', 'hex');
const EXTENDED = 20;
const PORT = 9;
const HAVE_NONE = 15;
/** The number that we give ut_pex. */
const PEX_ID = 7;

export class PexProbe {
  /** The other's extended handshake. */
  handshake: Bdict | null = null;
  /** Payloads of ut_pex that came. */
  readonly messages: Bdict[] = [];
  /** The PORT message (BEP 5). */
  dhtPort: number | null = null;
  closed = false;
  readonly #socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #greeted = false;

  constructor(host: string, port: number, localAddress: string, infoHash: string) {
    this.#socket = connect({ host, port, localAddress });
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      this.closed = true;
    });
    this.#socket.on('data', (bytes) => this.#receive(bytes));
    const id = `-XX0002-${localAddress.padEnd(12, '-').slice(-12)}`;
    this.#socket.write(
      Buffer.concat([
        Buffer.from(PROTOCOL, 'latin1'),
        RESERVED,
        Buffer.from(infoHash, 'hex'),
        Buffer.from(id, 'latin1'),
      ]),
    );
    this.#send(EXTENDED, Buffer.concat([Buffer.from([0]), encode({ m: { ut_pex: PEX_ID }, p: 51_413, v: 'probe' })]));
    this.#send(HAVE_NONE);
  }

  /** The number by which the other wants ut_pex, or null where it wants none. */
  get theirPexId(): number | null {
    const m = this.handshake?.['m'];
    const id = isDict(m) ? m['ut_pex'] : undefined;
    return typeof id === 'number' && id !== 0 ? id : null;
  }

  /** A ut_pex message, whether the other can do it or not. */
  tell(message: Uint8Array): void {
    this.#send(EXTENDED, Buffer.concat([Buffer.from([this.theirPexId ?? 1]), message]));
  }

  close(): void {
    this.#socket.destroy();
  }

  #send(id: number, body: Uint8Array = Buffer.alloc(0)): void {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(1 + body.length);
    head[4] = id;
    this.#socket.write(Buffer.concat([head, body]));
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
    if (message[0] === PORT) this.dhtPort = message.readUInt16BE(1);
    if (message[0] !== EXTENDED) return;
    const body = decode(message.subarray(2)) as Bdict;
    if (message[1] === 0) this.handshake = body;
    else if (message[1] === PEX_ID) this.messages.push(body);
  }
}
