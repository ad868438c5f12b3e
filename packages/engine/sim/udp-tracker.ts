/**
 * A simulated UDP tracker (BEP 15, 41) on a machine of the world: strict about connection ids, which are bound to the
 * asker's address and last two minutes, and the ways a tracker fails.
 */

import { readU16, readU32, toHex, writeU16, writeU32 } from '../src/base/bytes.ts';
import { formatEndpoint, parseIp } from '../src/base/ip.ts';
import type { UdpSocket } from '../src/base/ports.ts';
import type { Rng } from '../src/base/random.ts';
import type { SimNode } from './node.ts';
import type { World } from './world.ts';

export interface UdpAnnounce {
  readonly atMs: number;
  readonly ip: string;
  readonly port: number;
  readonly infoHash: string;
  readonly event: number;
  readonly left: number;
  readonly key: number;
  readonly numWant: number;
  /** URL data, all its options joined. */
  readonly data: string;
}

const CONNECTION_MS = 120_000;
const MAGIC_HIGH = 0x417;
const MAGIC_LOW = 0x27101980;

export class SimUdpTracker {
  intervalS = 120;
  /** 'up'; never answers; refuses every announce and scrape. */
  mode: 'up' | 'silent' | 'failure' = 'up';
  /** Packets that came, connects and all. */
  packetCount = 0;
  readonly announces: UdpAnnounce[] = [];
  readonly #world: World;
  readonly #rng: Rng;
  readonly #socket: UdpSocket;
  readonly #swarms = new Map<string, Map<string, boolean>>();
  #connections = new Map<string, number>();

  /** Boots the node. */
  constructor(world: World, node: SimNode, port: number) {
    this.#world = world;
    this.#rng = world.fork(`udp tracker ${node.id}`);
    const local = { ip: node.host.ip, port };
    this.#socket = node.boot().net.udp(
      local,
      { group: null, shared: false, bufferBytes: 0 },
      {
        onUdpBound: () => {},
        onUdpFault: (fault) => {
          throw new Error(fault.message);
        },
        onDatagram: (bytes, ip, from) => this.#datagram(bytes, ip, from),
      },
    );
  }

  /** As after a restart: connection ids given out mean nothing any more. */
  forget(): void {
    this.#connections = new Map();
  }

  /** Addresses in a swarm, by info-hash in hex. */
  members(infoHash: string): string[] {
    return [...(this.#swarms.get(infoHash)?.keys() ?? [])];
  }

  #datagram(bytes: Uint8Array, ip: string, port: number): void {
    this.packetCount++;
    if (this.mode === 'silent' || bytes.length < 16) return;
    const action = readU32(bytes, 8);
    const transaction = readU32(bytes, 12);
    if (action === 0) {
      if (readU32(bytes, 0) !== MAGIC_HIGH || readU32(bytes, 4) !== MAGIC_LOW) return;
      const id = [this.#rng.u32(), this.#rng.u32()];
      this.#connections.set(`${id.join()} ${formatEndpoint(ip, port)}`, this.#world.now + CONNECTION_MS);
      return this.#send(ip, port, [0, transaction, ...id]);
    }
    const known = this.#connections.get(`${readU32(bytes, 0)},${readU32(bytes, 4)} ${formatEndpoint(ip, port)}`);
    if (known === undefined || known < this.#world.now) return this.#refuse(ip, port, transaction, 'who are you');
    if (this.mode === 'failure') return this.#refuse(ip, port, transaction, 'not today');
    if (action === 1 && bytes.length >= 98) this.#announce(bytes, ip, port, transaction);
    if (action === 2) this.#scrape(bytes, ip, port, transaction);
  }

  #announce(bytes: Uint8Array, ip: string, from: number, transaction: number): void {
    const infoHash = toHex(bytes.subarray(16, 36));
    const port = readU16(bytes, 96);
    const left = readU32(bytes, 64) * 2 ** 32 + readU32(bytes, 68);
    const announce: UdpAnnounce = {
      atMs: this.#world.now,
      ip,
      port,
      infoHash,
      event: readU32(bytes, 80),
      left,
      key: readU32(bytes, 88),
      numWant: readU32(bytes, 92) | 0,
      data: readUrlData(bytes),
    };
    this.announces.push(announce);
    const swarm = this.#swarms.get(infoHash) ?? new Map<string, boolean>();
    this.#swarms.set(infoHash, swarm);
    const own = formatEndpoint(ip, port);
    if (announce.event === 3) swarm.delete(own);
    else swarm.set(own, left === 0);
    const others = [...swarm.keys()].filter((address) => address !== own).slice(0, Math.max(0, announce.numWant));
    const { seeds, leechers } = this.#counts(infoHash);
    this.#send(ip, from, [1, transaction, this.intervalS, leechers, seeds], others.map(compact));
  }

  #scrape(bytes: Uint8Array, ip: string, port: number, transaction: number): void {
    const words: number[] = [];
    for (let at = 16; at + 20 <= bytes.length; at += 20) {
      const { seeds, leechers } = this.#counts(toHex(bytes.subarray(at, at + 20)));
      words.push(seeds, 7, leechers);
    }
    this.#send(ip, port, [2, transaction, ...words]);
  }

  #counts(infoHash: string): { seeds: number; leechers: number } {
    const states = [...(this.#swarms.get(infoHash)?.values() ?? [])];
    const seeds = states.filter((isSeed) => isSeed).length;
    return { seeds, leechers: states.length - seeds };
  }

  #refuse(ip: string, port: number, transaction: number, why: string): void {
    this.#send(ip, port, [3, transaction], [Uint8Array.from(why, (c) => c.charCodeAt(0))]);
  }

  #send(ip: string, port: number, words: readonly number[], tails: readonly Uint8Array[] = []): void {
    const bytes = new Uint8Array(4 * words.length + tails.reduce((sum, tail) => sum + tail.length, 0));
    for (let i = 0; i < words.length; i++) writeU32(bytes, 4 * i, words[i]!);
    let at = 4 * words.length;
    for (const tail of tails) {
      bytes.set(tail, at);
      at += tail.length;
    }
    this.#socket.send(bytes, ip, port);
  }
}

function compact(address: string): Uint8Array {
  const colon = address.lastIndexOf(':');
  const ip = parseIp(address.slice(0, colon).replace(/[[\]]/g, ''))!;
  const bytes = new Uint8Array(ip.length + 2);
  bytes.set(ip);
  writeU16(bytes, ip.length, Number(address.slice(colon + 1)));
  return bytes;
}

/** BEP 41, read strictly: what it does not allow throws. */
function readUrlData(bytes: Uint8Array): string {
  let text = '';
  let at = 98;
  while (at < bytes.length) {
    const type = bytes[at]!;
    if (type === 0) break;
    if (type === 1) {
      at++;
      continue;
    }
    const size = bytes[at + 1];
    if (size === undefined || at + 2 + size > bytes.length) throw new Error('an option ends outside the packet');
    if (type === 2) text += String.fromCharCode(...bytes.subarray(at + 2, at + 2 + size));
    at += 2 + size;
  }
  return text;
}
