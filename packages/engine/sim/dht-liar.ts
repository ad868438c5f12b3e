/**
 * Nodes that lie, for the packet network: they answer every query at once, name only each other, hand out tokens, take
 * announces and forget them. Together they are a sybil attack on a hash, or the bad part of a list of bootstrap nodes.
 */

import { latin1, writeU16 } from '../src/base/bytes.ts';
import { parseIp } from '../src/base/ip.ts';
import { BDict, type BInput, type BValue, decode, encode } from '../src/codec/bencode.ts';
import { randomIdNear } from '../src/discovery/node-id.ts';
import type { DhtHost, DhtNet } from './dht-net.ts';

/** Bits of a target that the id of a liar shares: closer than any honest node of a network this small. */
const NEAR_BITS = 40;
/** Named in a reply. */
const NAMED = 8;

export class Liar implements DhtHost {
  readonly ip: string;
  readonly port: number;
  readonly nat = 'none';
  readonly latencyMs: number = 1;
  readonly net: DhtNet;
  readonly gang: Gang;
  id: Uint8Array;
  /** Queries it was asked, by method. */
  readonly asked: Map<string, number> = new Map();

  constructor(gang: Gang, ip: string, id: Uint8Array) {
    this.net = gang.net;
    this.gang = gang;
    this.ip = ip;
    this.port = 6881;
    this.id = id;
    this.net.add(this);
  }

  receive(bytes: Uint8Array, ip: string, port: number): void {
    const message = read(bytes);
    if (message === null || message.text('y') !== 'q') return;
    const method = message.text('q') ?? '';
    this.asked.set(method, (this.asked.get(method) ?? 0) + 1);
    const about = message.dict('a');
    const target = about?.bytes('info_hash') ?? about?.bytes('target') ?? null;
    const r: Record<string, BInput> = { id: this.id };
    if (method !== 'ping') r.nodes = this.gang.names();
    if (method === 'get_peers' || method === 'get') r.token = 'liar';
    if (method === 'get_peers' && this.gang.fakePeers > 0) r.values = this.gang.values();
    if (target !== null && this.gang.chases) this.id = randomIdNear(this.net.rng, target, NEAR_BITS);
    this.send({ t: message.bytes('t')!, y: 'r', r, ip: compactOf(ip, port) }, ip, port);
  }

  /** Makes itself known. */
  ask(method: string, target: Uint8Array, ip: string, port: number): void {
    this.send({ t: 'aa', y: 'q', q: method, a: { id: this.id, target, info_hash: target } }, ip, port);
  }

  send(message: BInput, ip: string, port: number): void {
    this.net.send(this, encode(message), ip, port);
  }
}

/** Liars that work together. */
export class Gang {
  readonly net: DhtNet;
  readonly liars: Liar[] = [];
  /** They take ids near whatever they are asked about. */
  chases = false;
  /** Addresses of nobody that they give for every hash. */
  fakePeers = 0;

  constructor(net: DhtNet) {
    this.net = net;
  }

  /** `count` of them in one /24 ("6.6.6"). */
  settle(count: number, network: string): void {
    for (let i = 0; i < count; i++) this.liars.push(new Liar(this, `${network}.${1 + i}`, this.#randomId()));
  }

  /** `count` of them, each in a network of its own. */
  scatter(count: number): void {
    for (let i = 0; i < count; i++) this.liars.push(new Liar(this, this.net.freshIp(), this.#randomId()));
  }

  /** All take ids that are closer to the target than anybody honest. */
  surround(target: Uint8Array): void {
    for (const liar of this.liars) liar.id = randomIdNear(this.net.rng, target, NEAR_BITS + this.net.rng.below(8));
  }

  /** Some of them, as `nodes` of a reply. */
  names(): Uint8Array {
    const count = Math.min(NAMED, this.liars.length);
    const joined = new Uint8Array(26 * count);
    const first = this.net.rng.below(this.liars.length);
    for (let i = 0; i < count; i++) {
      const liar = this.liars[(first + i) % this.liars.length]!;
      joined.set(liar.id, 26 * i);
      joined.set(compactOf(liar.ip, liar.port), 26 * i + 20);
    }
    return joined;
  }

  values(): Uint8Array[] {
    return Array.from({ length: this.fakePeers }, () => {
      const peer = new Uint8Array(6);
      this.net.rng.fill(peer);
      peer[0] = 66;
      return peer;
    });
  }

  /** Every liar asks every host about the target. */
  canvass(hosts: readonly DhtHost[], target: Uint8Array): void {
    for (const liar of this.liars) {
      for (const host of hosts) liar.ask('find_node', target, host.ip, host.port);
    }
  }

  #randomId(): Uint8Array {
    const id = new Uint8Array(20);
    this.net.rng.fill(id);
    return id;
  }
}

/** Address and port as they go over the wire. */
export function compactOf(ip: string, port: number): Uint8Array {
  const address = parseIp(ip)!;
  const compact = new Uint8Array(address.length + 2);
  compact.set(address);
  writeU16(compact, address.length, port);
  return compact;
}

/** Null: no dictionary. */
export function read(bytes: Uint8Array): BDict | null {
  try {
    const value: BValue = decode(bytes);
    return value instanceof BDict ? value : null;
  } catch {
    return null;
  }
}

/** The query or reply in short, for a test that looks at packets: "get_peers", "r", "e". */
export function kindOf(bytes: Uint8Array): string {
  const message = read(bytes);
  const y = message?.text('y') ?? '?';
  return y === 'q' ? latin1(message!.bytes('q') ?? new Uint8Array(0)) : y;
}
