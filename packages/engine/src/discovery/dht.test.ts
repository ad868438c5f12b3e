import { describe, expect, it } from 'vitest';
import { equal, fromHex, latin1, toHex, utf8Encode } from '../base/bytes.ts';
import { parseIp } from '../base/ip.ts';
import { PlatformCrypto } from '../base/platform-crypto.ts';
import { Rng } from '../base/random.ts';
import { BDict, decode } from '../codec/bencode.ts';
import { Dht, type DhtOptions, type DhtPeersResult } from './dht.ts';
import { type DhtItem, makeImmutable, makeMutable } from './dht-items.ts';
import { ExternalIp } from './external-ip.ts';
import { idMatches, makeNodeId } from './node-id.ts';

const crypto = new PlatformCrypto();

interface Packet {
  at: number;
  order: number;
  bytes: Uint8Array;
  fromIp: string;
  fromPort: number;
  ip: string;
  port: number;
}

/** A network in memory: every packet takes 10 ms, and nothing else passes time. */
class Net {
  now = 1000;
  readonly rng = new Rng(Uint32Array.of(1, 2, 3, 4));
  readonly nodes = new Map<string, Node>();
  readonly packets: Packet[] = [];
  /** Sees all that is sent; true: swallow it. */
  tap: ((packet: Packet) => boolean) | null = null;
  #order = 0;

  send(bytes: Uint8Array, fromIp: string, fromPort: number, ip: string, port: number): void {
    const packet = { at: this.now + 10, order: this.#order++, bytes: bytes.slice(), fromIp, fromPort, ip, port };
    if (this.tap?.(packet) !== true) this.packets.push(packet);
  }

  run(ms: number, until: () => boolean = () => false): void {
    const end = this.now + ms;
    while (!until()) {
      let next = this.packets[0]?.at ?? Number.POSITIVE_INFINITY;
      for (const node of this.nodes.values()) next = Math.min(next, node.dht.nextAt());
      if (next > end) {
        this.now = end;
        return;
      }
      this.now = Math.max(this.now, next);
      while (this.packets.length > 0 && this.packets[0]!.at <= this.now) {
        const p = this.packets.shift()!;
        this.nodes.get(`${p.ip} ${p.port}`)?.receive(p.bytes, p.fromIp, p.fromPort);
      }
      for (const node of this.nodes.values()) if (node.dht.nextAt() <= this.now) node.dht.tick(this.now);
    }
  }

  add(ip: string, port: number, options: Partial<DhtOptions> = {}): Node {
    const node = new Node(this, ip, port, options);
    this.nodes.set(`${ip} ${port}`, node);
    return node;
  }

  /** A closed network of `n` nodes that all know the first. */
  closed(n: number, address: (i: number) => string, options: Partial<DhtOptions> = {}): Node[] {
    const nodes = Array.from({ length: n }, (_, i) => this.add(address(i), 2000 + i, options));
    for (const node of nodes) {
      if (node !== nodes[0]) node.dht.addRouter(this.now, nodes[0]!.ip, nodes[0]!.port);
      node.dht.start(this.now, { v4: !node.ip.includes(':'), v6: node.ip.includes(':') });
    }
    this.run(60_000);
    return nodes;
  }
}

class Node {
  readonly net: Net;
  readonly ip: string;
  readonly port: number;
  readonly dht: Dht;
  readonly external = new ExternalIp();
  ready = 0;
  receive: (bytes: Uint8Array, ip: string, port: number) => void;

  constructor(net: Net, ip: string, port: number, options: Partial<DhtOptions>) {
    this.net = net;
    this.ip = ip;
    this.port = port;
    this.dht = new Dht({
      rng: new Rng(Uint32Array.of(net.rng.u32(), net.rng.u32(), net.rng.u32(), net.rng.u32())),
      crypto,
      external: this.external,
      version: Uint8Array.of(83, 72, 0, 1),
      sink: {
        onDhtSend: (bytes, to, toPort) => net.send(bytes, ip, port, to, toPort),
        onDhtReady: () => {
          this.ready++;
        },
      },
      ...options,
    });
    this.receive = (bytes, from, fromPort) => this.dht.datagram(net.now, bytes, from, fromPort);
  }

  peers(infoHash: Uint8Array, announce: { port: number; seed: boolean } | null): PeersResult {
    const found = new PeersResult();
    this.dht.getPeers(this.net.now, infoHash, found, announce);
    const from = this.net.now;
    this.net.run(60_000, () => found.done !== null);
    found.tookMs = this.net.now - from;
    return found;
  }
}

class PeersResult {
  readonly peers: string[] = [];
  done: DhtPeersResult | null = null;
  tookMs = 0;

  onDhtPeers(peers4: Uint8Array, peers6: Uint8Array): void {
    for (let i = 0; i < peers4.length; i += 6) this.peers.push(toHex(peers4.subarray(i, i + 6)));
    for (let i = 0; i < peers6.length; i += 18) this.peers.push(toHex(peers6.subarray(i, i + 18)));
  }

  onDhtPeersDone(result: DhtPeersResult): void {
    expect(this.done).toBe(null);
    this.done = result;
  }
}

const HASH = utf8Encode('an info-hash of 20 b');
const spread = (i: number): string => `${20 + i}.${(37 * i) % 250}.7.${1 + i}`;

describe('a closed network', () => {
  it('finds the peer that another node announced, in no time', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    for (const node of nodes) expect(node.ready).toBe(1);
    const announced = nodes[3]!.peers(HASH, { port: 7777, seed: true });
    expect(announced.done!.announced).toBe(8);
    const found = nodes[9]!.peers(HASH, null);
    expect(found.peers).toEqual([toHex(Uint8Array.of(...parseIp(spread(3))!, 7777 >> 8, 7777 & 255))]);
    expect(found.tookMs).toBeLessThan(300);
  });

  it('works on one loopback address, and on one network', () => {
    for (const address of [() => '127.0.0.1', (i: number) => `127.0.0.${1 + i}`, (i: number) => `fd00::${1 + i}`]) {
      const net = new Net();
      const nodes = net.closed(12, address);
      const announced = nodes[3]!.peers(HASH, { port: 0, seed: false });
      expect(announced.done!.announced).toBeGreaterThan(0);
      const found = nodes[9]!.peers(HASH, null);
      expect(found.peers).toHaveLength(1);
      expect(found.tookMs).toBeLessThan(300);
    }
  });
});
