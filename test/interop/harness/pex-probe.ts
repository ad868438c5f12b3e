/** A peer that can do ut_pex (BEP 11) and nothing else, and counts what it is told. */

import { type Bdict, decode, isDict } from './bdecode.ts';
import { PeerSocket } from './peer-socket.ts';
import { encode } from './torrent.ts';

/** Extension protocol (BEP 10), DHT (BEP 5), fast extension (BEP 6). */
const RESERVED = '0000000000100005';
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
  readonly #socket: PeerSocket;

  constructor(host: string, port: number, localAddress: string, infoHash: string) {
    const peerId = `-XX0002-${localAddress.padEnd(12, '-').slice(-12)}`;
    const onMessage = (message: Buffer) => this.#message(message);
    this.#socket = new PeerSocket({ host, port, localAddress, infoHash, reserved: RESERVED, peerId, onMessage });
    this.#socket.send(
      EXTENDED,
      Buffer.concat([Buffer.from([0]), encode({ m: { ut_pex: PEX_ID }, p: 51_413, v: 'probe' })]),
    );
    this.#socket.send(HAVE_NONE);
  }

  /** The number by which the other wants ut_pex, or null where it wants none. */
  get theirPexId(): number | null {
    const m = this.handshake?.['m'];
    const id = isDict(m) ? m['ut_pex'] : undefined;
    return typeof id === 'number' && id !== 0 ? id : null;
  }

  /** A ut_pex message, whether the other can do it or not. */
  tell(message: Uint8Array): void {
    this.#socket.send(EXTENDED, Buffer.concat([Buffer.from([this.theirPexId ?? 1]), message]));
  }

  get closed(): boolean {
    return this.#socket.closed;
  }

  close(): void {
    this.#socket.close();
  }

  #message(message: Buffer): void {
    if (message[0] === PORT) this.dhtPort = message.readUInt16BE(1);
    if (message[0] !== EXTENDED) return;
    const body = decode(message.subarray(2)) as Bdict;
    if (message[1] === 0) this.handshake = body;
    else if (message[1] === PEX_ID) this.messages.push(body);
  }
}
