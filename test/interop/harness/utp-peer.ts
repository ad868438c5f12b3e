/** The engine's uTP machine on a real socket, with just enough of a BitTorrent peer around it to fetch and to seed. */

import { createHash, randomFillSync } from 'node:crypto';
import type { IoFault } from '../../../packages/engine/dist/src/base/errors.js';
import type { Conn, ConnSink, Endpoint, UdpSocket } from '../../../packages/engine/dist/src/base/ports.js';
import { HostNet } from '../../../packages/engine/dist/src/host/net.js';
import { UtpMux } from '../../../packages/engine/dist/src/transport/utp-mux.js';
import type { UtpStats } from '../../../packages/engine/dist/src/transport/utp-stats.js';

const BLOCK = 16_384;
const PIPELINE = 256;
const BUFFER_BYTES = 4 << 20;

export class UtpNode {
  readonly mux: UtpMux;
  readonly #udp: UdpSocket;
  readonly #bound: Promise<Endpoint>;
  #armed = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(ip: string, onAccept: (conn: Conn) => void) {
    let bound: (local: Endpoint) => void = () => {};
    this.#bound = new Promise((resolve) => {
      bound = resolve;
    });
    this.#udp = new HostNet(new Uint8Array(1024)).udp(
      { ip, port: 0 },
      { group: null, shared: false, bufferBytes: BUFFER_BYTES },
      {
        onUdpBound: bound,
        onUdpFault: (fault) => {
          throw new Error(fault.message);
        },
        onDatagram: (bytes, from, port) => {
          const now = performance.now();
          this.mux.datagram(now, microsOf(now), bytes, from, port);
          this.soon();
        },
      },
    );
    this.mux = new UtpMux({
      random: { fill: (bytes) => randomFillSync(bytes) },
      sink: { onUtpSend: (bytes, to, port) => this.#udp.send(bytes, to, port), onUtpAccept: onAccept },
    });
  }

  async open(): Promise<Endpoint> {
    return await this.#bound;
  }

  connect(remote: Endpoint, sink: ConnSink): Conn {
    const conn = this.mux.connect(performance.now(), remote, sink);
    this.soon();
    return conn;
  }

  /** A turn comes; after commands. */
  soon(): void {
    if (this.#armed) return;
    this.#armed = true;
    setImmediate(() => this.#turn());
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#armed = true;
    this.#udp.close();
  }

  get stats(): UtpStats {
    return this.mux.stats;
  }

  #turn(): void {
    this.#armed = false;
    const now = performance.now();
    this.mux.tick(now, microsOf(now));
    this.mux.endTurn(now, microsOf(now));
    if (this.#timer !== null) clearTimeout(this.#timer);
    const at = this.mux.nextAt();
    if (at < Number.POSITIVE_INFINITY) this.#timer = setTimeout(() => this.soon(), Math.max(0, at - now));
  }
}

function microsOf(now: number): number {
  return Math.floor(now * 1000) >>> 0;
}

export interface Piece {
  readonly infoHash: string;
  readonly pieceLength: number;
  /** All of the torrent's one file. */
  readonly data: Uint8Array;
}

/** One peer: asks for everything when it leeches, answers everything when it seeds. */
export class UtpPeer implements ConnSink {
  conn: Conn | null = null;
  closed = false;
  fault: IoFault | null = null;
  /** What was fetched. */
  readonly fetched: Uint8Array;
  gotBytes = 0;
  readonly #node: UtpNode;
  readonly #torrent: Piece;
  readonly #leeches: boolean;
  #in: Buffer = Buffer.alloc(0);
  #out: Uint8Array[] = [];
  #sending = false;
  #greeted = false;
  #asked = 0;

  constructor(node: UtpNode, torrent: Piece, leeches: boolean) {
    this.#node = node;
    this.#torrent = torrent;
    this.#leeches = leeches;
    this.fetched = new Uint8Array(leeches ? torrent.data.length : 0);
  }

  get complete(): boolean {
    return this.#leeches && this.gotBytes === this.#torrent.data.length;
  }

  get sha1(): string {
    return createHash('sha1').update(this.fetched).digest('hex');
  }

  onConnected(): void {
    this.#greet();
    this.#flush();
  }

  onSent(): void {
    this.#sending = false;
    this.#flush();
  }

  onClosed(fault: IoFault | null): void {
    this.closed = true;
    this.fault = fault;
  }

  onData(bytes: Uint8Array): void {
    this.#in = Buffer.concat([this.#in, bytes]);
    if (!this.#greeted) {
      if (this.#in.length < 68) return;
      this.#greeted = true;
      if (this.#in.subarray(28, 48).toString('hex') !== this.#torrent.infoHash) throw new Error('another torrent');
      this.#in = this.#in.subarray(68);
      if (!this.#leeches) {
        this.#greet();
        this.#haveAll();
      }
    }
    let at = 0;
    while (this.#in.length - at >= 4) {
      const length = this.#in.readUInt32BE(at);
      if (this.#in.length - at < 4 + length) break;
      if (length > 0) this.#message(this.#in.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    this.#in = this.#in.subarray(at);
    this.#flush();
  }

  #greet(): void {
    const protocol = Buffer.from('\x13BitTorrent protocol\0\0\0\0\0\0\0\0', 'latin1');
    const id = Buffer.from('-XX0000-abcdefghijkl', 'latin1');
    this.#out.push(Buffer.concat([protocol, Buffer.from(this.#torrent.infoHash, 'hex'), id]));
    if (this.#leeches) this.#out.push(Buffer.from([0, 0, 0, 1, 2]));
  }

  #haveAll(): void {
    const { data, pieceLength } = this.#torrent;
    const pieces = Math.ceil(data.length / pieceLength);
    const bits = Buffer.alloc(Math.ceil(pieces / 8));
    for (let i = 0; i < pieces; i++) bits[i >> 3]! |= 128 >> (i & 7);
    const head = Buffer.from([0, 0, 0, 0, 5]);
    head.writeUInt32BE(1 + bits.length);
    this.#out.push(head, bits, Buffer.from([0, 0, 0, 1, 1]));
  }

  #message(message: Buffer): void {
    const { data, pieceLength } = this.#torrent;
    const id = message[0];
    if (id === 1 && this.#leeches) this.#ask();
    if (id === 6) {
      const at = message.readUInt32BE(1) * pieceLength + message.readUInt32BE(5);
      const length = message.readUInt32BE(9);
      const head = Buffer.alloc(13);
      head.writeUInt32BE(9 + length);
      head[4] = 7;
      message.copy(head, 5, 1, 9);
      this.#out.push(head, data.subarray(at, at + length));
    }
    if (id === 7) {
      this.fetched.set(message.subarray(9), message.readUInt32BE(1) * pieceLength + message.readUInt32BE(5));
      this.gotBytes += message.length - 9;
      this.#ask();
    }
  }

  #ask(): void {
    const { data, pieceLength } = this.#torrent;
    while (this.#asked < data.length && this.#asked - this.gotBytes < PIPELINE * BLOCK) {
      const request = Buffer.alloc(17);
      request.writeUInt32BE(13);
      request[4] = 6;
      request.writeUInt32BE(Math.floor(this.#asked / pieceLength), 5);
      request.writeUInt32BE(this.#asked % pieceLength, 9);
      request.writeUInt32BE(Math.min(BLOCK, data.length - this.#asked), 13);
      this.#asked += BLOCK;
      this.#out.push(request);
    }
  }

  #flush(): void {
    if (this.#sending || this.#out.length === 0 || this.closed) return;
    const views = this.#out.splice(0, 64);
    this.#sending = true;
    this.conn!.send(views, views.length);
    this.#node.soon();
  }
}
