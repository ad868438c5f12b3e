/** A TCP connection to a peer, from the handshake on as whole messages: what the probes that speak by hand have in common. */

import { connect, type Socket } from 'node:net';

const HANDSHAKE_BYTES = 68;
const PROTOCOL = '\x13BitTorrent protocol';

export interface PeerSocketOptions {
  readonly host: string;
  readonly port: number;
  readonly localAddress: string;
  /** 40 hex digits. */
  readonly infoHash: string;
  /** 16 hex digits. */
  readonly reserved: string;
  /** 20 characters. */
  readonly peerId: string;
  /** One message, from its number on. */
  readonly onMessage: (message: Buffer) => void;
}

export class PeerSocket {
  closed = false;
  readonly #socket: Socket;
  readonly #onMessage: (message: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);
  #greeted = false;

  /** Connects and sends its handshake. */
  constructor({ host, port, localAddress, infoHash, reserved, peerId, onMessage }: PeerSocketOptions) {
    this.#onMessage = onMessage;
    this.#socket = connect({ host, port, localAddress });
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      this.closed = true;
    });
    this.#socket.on('data', (bytes) => this.#receive(bytes));
    this.#socket.write(
      Buffer.concat([
        Buffer.from(PROTOCOL, 'latin1'),
        Buffer.from(reserved + infoHash, 'hex'),
        Buffer.from(peerId, 'latin1'),
      ]),
    );
  }

  send(id: number, body: Uint8Array = Buffer.alloc(0)): void {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(1 + body.length);
    head[4] = id;
    this.#socket.write(Buffer.concat([head, body]));
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
      if (length > 0) this.#onMessage(rest.subarray(4, 4 + length));
      rest = rest.subarray(4 + length);
    }
    this.#rest = rest;
  }
}
