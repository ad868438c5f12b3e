/**
 * A small UDP tracker (BEP 15) that takes every packet apart and remembers what it saw: for what real trackers do not
 * show, above all the URL data of BEP 41. On one address, or on 127.0.0.1 and ::1 with one port.
 */

import { randomBytes } from 'node:crypto';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';

export interface HeardAnnounce {
  readonly family: 4 | 6;
  readonly infoHash: string;
  readonly peerId: string;
  readonly downloaded: bigint;
  readonly left: bigint;
  readonly uploaded: bigint;
  /** 0 none, 1 completed, 2 started, 3 stopped. */
  readonly event: number;
  readonly ip: number;
  readonly key: number;
  readonly numWant: number;
  readonly port: number;
  /** Each option after the 98 bytes: its type and content. */
  readonly options: readonly { readonly type: number; readonly text: string }[];
}

export class UdpTracker {
  readonly announces: HeardAnnounce[] = [];
  readonly scrapes: string[][] = [];
  /** Packets that are none of BEP 15. */
  readonly rubbish: string[] = [];
  port = 0;
  /** Seconds. */
  interval = 1800;
  /** More peers that are told of, compact: 6 bytes each to askers by IPv4, 18 to those by IPv6. */
  peers: { 4: Buffer; 6: Buffer } = { 4: Buffer.alloc(0), 6: Buffer.alloc(0) };
  /** Who is in a swarm: compact addresses in hex, by info-hash and family. */
  readonly #swarms = new Map<string, Set<string>>();
  readonly #sockets: Socket[] = [];
  readonly #connections = new Set<string>();
  #wake: (() => void)[] = [];

  /** `ips`: where it listens; `port` 0: one that is free on all. */
  async start(ips: readonly string[], port = 0): Promise<void> {
    this.port = port;
    for (const ip of ips) {
      const socket = isIPv6(ip) ? createSocket({ type: 'udp6', ipv6Only: true }) : createSocket('udp4');
      this.#sockets.push(socket);
      socket.on('message', (bytes, from) => this.#packet(socket, bytes, from));
      await new Promise<void>((resolve, reject) => socket.once('error', reject).bind(this.port, ip, resolve));
      this.port = socket.address().port;
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#sockets.splice(0).map((socket) => new Promise<void>((done) => socket.close(() => done()))));
  }

  tail(): string {
    return JSON.stringify({ announces: this.announces.slice(-5), rubbish: this.rubbish }, (_key, value: unknown) =>
      typeof value === 'bigint' ? `${value}` : value,
    );
  }

  /** Waits until what was heard is enough. */
  async heard(condition: (announces: readonly HeardAnnounce[]) => boolean, timeoutMs = 10_000): Promise<void> {
    const late = AbortSignal.timeout(timeoutMs);
    while (!condition(this.announces)) {
      await new Promise<void>((resolve, reject) => {
        this.#wake.push(resolve);
        late.addEventListener('abort', () => reject(new Error(`not heard within ${timeoutMs} ms: ${this.tail()}`)));
        if (late.aborted) reject(new Error(`not heard within ${timeoutMs} ms: ${this.tail()}`));
      });
    }
  }

  /** Notes who announced, and returns the others of its family. */
  #others(announce: HeardAnnounce, ip: string): Buffer {
    const key = `${announce.infoHash} ${announce.family}`;
    const swarm = this.#swarms.get(key) ?? new Set<string>();
    this.#swarms.set(key, swarm);
    const own = compactHex(ip, announce.port);
    const others = [...swarm].filter((one) => one !== own).slice(0, Math.max(0, announce.numWant));
    if (announce.event === 3) swarm.delete(own);
    else swarm.add(own);
    return Buffer.from(others.join(''), 'hex');
  }

  #packet(socket: Socket, bytes: Buffer, from: RemoteInfo): void {
    const answer = (...parts: (number | Buffer)[]): void => {
      const words = parts.map((part) => {
        if (typeof part !== 'number') return part;
        const word = Buffer.alloc(4);
        word.writeUInt32BE(part >>> 0);
        return word;
      });
      socket.send(Buffer.concat(words), from.port, from.address);
    };
    const wrong = (): void => void this.rubbish.push(bytes.toString('hex'));
    if (bytes.length < 16) return wrong();
    const transaction = bytes.readUInt32BE(12);
    const action = bytes.readUInt32BE(8);
    if (action === 0) {
      if (bytes.length !== 16 || bytes.readBigUInt64BE(0) !== 0x41727101980n) return wrong();
      const id = randomBytes(8);
      this.#connections.add(`${id.toString('hex')} ${from.address} ${from.port}`);
      return answer(0, transaction, id);
    }
    if (!this.#connections.has(`${bytes.toString('hex', 0, 8)} ${from.address} ${from.port}`)) return wrong();
    const family = from.family === 'IPv6' ? 6 : 4;
    if (action === 1 && bytes.length >= 98) {
      const announce = readAnnounce(bytes, family);
      this.announces.push(announce);
      answer(1, transaction, this.interval, 3, 4, this.#others(announce, from.address), this.peers[family]);
    } else if (action === 2 && (bytes.length - 16) % 20 === 0) {
      const hashes: string[] = [];
      for (let at = 16; at < bytes.length; at += 20) hashes.push(bytes.toString('hex', at, at + 20));
      this.scrapes.push(hashes);
      answer(2, transaction, ...hashes.flatMap(() => [5, 6, 7]));
    } else return wrong();
    for (const wake of this.#wake.splice(0)) wake();
  }
}

function compactHex(ip: string, port: number): string {
  const digits = port.toString(16).padStart(4, '0');
  if (!isIPv6(ip))
    return (
      ip
        .split('.')
        .map((part) => Number(part).toString(16).padStart(2, '0'))
        .join('') + digits
    );
  const [head, tail] = ip.split('::').map((half) => half.split(':').filter((group) => group !== ''));
  const missing = new Array<string>(8 - head!.length - (tail?.length ?? 0)).fill('0');
  return [...head!, ...missing, ...(tail ?? [])].map((group) => group.padStart(4, '0')).join('') + digits;
}

function readAnnounce(bytes: Buffer, family: 4 | 6): HeardAnnounce {
  const options: { type: number; text: string }[] = [];
  for (let at = 98; at < bytes.length; ) {
    const type = bytes[at]!;
    const length = type < 2 ? 0 : bytes[at + 1]!;
    const from = at + (type < 2 ? 1 : 2);
    if (from + length > bytes.length) options.push({ type, text: `cut off after ${bytes.length - from} of ${length}` });
    else options.push({ type, text: bytes.toString('latin1', from, from + length) });
    at = from + length;
  }
  return {
    family,
    infoHash: bytes.toString('hex', 16, 36),
    peerId: bytes.toString('latin1', 36, 56),
    downloaded: bytes.readBigUInt64BE(56),
    left: bytes.readBigUInt64BE(64),
    uploaded: bytes.readBigUInt64BE(72),
    event: bytes.readUInt32BE(80),
    ip: bytes.readUInt32BE(84),
    key: bytes.readUInt32BE(88),
    numWant: bytes.readInt32BE(92),
    port: bytes.readUInt16BE(96),
    options,
  };
}
