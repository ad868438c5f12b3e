/** Carries datagrams between a client and a server as a bad line does: some late, some out of order, some never. */

import { createSocket, type Socket } from 'node:dgram';
import type { AddressInfo } from 'node:net';

export interface RelayOptions {
  /** Share of datagrams lost each way. */
  readonly loss: number;
  /** Each way, ms; and more by chance up to `jitterMs`, so that some overtake others. */
  readonly delayMs: number;
  readonly jitterMs: number;
}

export class UdpRelay {
  readonly #front: Socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 21 });
  readonly #back: Socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 21 });
  readonly #options: RelayOptions;
  readonly #server: AddressInfo;
  #client: AddressInfo | null = null;
  passed = 0;
  lost = 0;
  #closed = false;

  constructor(server: { readonly ip: string; readonly port: number }, options: RelayOptions) {
    this.#server = { address: server.ip, port: server.port, family: 'IPv4' };
    this.#options = options;
    this.#front.on('message', (bytes, from) => {
      this.#client = from;
      this.#pass(this.#back, bytes, this.#server);
    });
    this.#back.on('message', (bytes) => {
      if (this.#client !== null) this.#pass(this.#front, bytes, this.#client);
    });
  }

  /** Opens it; the port clients send to. */
  async open(ip: string): Promise<number> {
    await Promise.all(
      [this.#front, this.#back].map((socket) => new Promise<void>((resolve) => socket.bind(0, ip, resolve))),
    );
    return this.#front.address().port;
  }

  close(): void {
    this.#closed = true;
    this.#front.close();
    this.#back.close();
  }

  #pass(socket: Socket, bytes: Uint8Array, to: AddressInfo): void {
    const { loss, delayMs, jitterMs } = this.#options;
    if (Math.random() < loss) {
      this.lost++;
      return;
    }
    this.passed++;
    setTimeout(
      () => {
        if (!this.#closed) socket.send(bytes, to.port, to.address);
      },
      delayMs + Math.random() * jitterMs,
    );
  }
}
