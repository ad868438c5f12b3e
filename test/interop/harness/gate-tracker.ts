/** A tracker that names one peer, and holds every answer back until its gate is opened. */

import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { encode } from './torrent.ts';

export class GateTracker {
  url = '';
  /** host:port to name. */
  peer = '';
  readonly #server: Server;
  #open = false;
  #held: ServerResponse[] = [];

  constructor() {
    this.#server = createServer((request, response) => {
      const stopped = request.url?.includes('event=stopped') === true;
      if (this.#open || stopped) this.#answer(response);
      else this.#held.push(response);
    });
  }

  listen(host: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject).listen(0, host, () => {
        this.url = `http://${host}:${(this.#server.address() as AddressInfo).port}/announce`;
        resolve();
      });
    });
  }

  open(): void {
    this.#open = true;
    for (const response of this.#held.splice(0)) this.#answer(response);
  }

  shut(): void {
    this.#open = false;
    for (const response of this.#held.splice(0)) response.destroy();
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #answer(response: ServerResponse): void {
    const [host, port] = this.peer.split(':');
    const peers = Buffer.from([...host!.split('.').map(Number), Number(port) >> 8, Number(port) & 255]);
    response.end(encode({ interval: 1800, peers }));
  }
}
