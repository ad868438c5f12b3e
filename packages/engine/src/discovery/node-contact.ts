/** Where a node of the DHT stands, and what follows from that alone. */

import { ID_BYTES, isSecure, networkOf } from './node-id.ts';

export class NodeContact {
  /** Id, address, port: 26 or 38 bytes, as it goes over the wire. */
  readonly compact: Uint8Array;
  readonly ip: string;
  readonly port: number;
  readonly network: number | string;
  /** Its id matches its address (BEP 42). */
  secure: boolean;

  constructor(compact: Uint8Array, ip: string, port: number) {
    // a copy: a view would move the bytes themselves out of the heap
    const address = compact.slice(ID_BYTES, compact.length - 2);
    this.compact = compact;
    this.ip = ip;
    this.port = port;
    this.network = networkOf(address);
    this.secure = isSecure(compact, address);
  }
}
