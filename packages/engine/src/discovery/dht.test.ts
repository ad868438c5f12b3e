import { describe, expect, it } from 'vitest';
import { toHex, utf8Encode } from '../base/bytes.ts';
import { parseEndpoint, parseIp } from '../base/ip.ts';
import { PlatformCrypto } from '../base/platform-crypto.ts';
import { Rng } from '../base/random.ts';
import { BDict, decode, encode } from '../codec/bencode.ts';
import { Dht, type DhtOptions, type DhtPeersResult, type ItemKey } from './dht.ts';
import { type DhtItem, makeImmutable, makeMutable } from './dht-items.ts';
import { ExternalIp } from './external-ip.ts';
import { idMatches } from './node-id.ts';

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

  /** Whether datagrams to an address leave at all. */
  reaches: (ip: string) => boolean = () => true;
  /** Of the second family, where it has one. */
  ip6 = '';

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
        onDhtSend: (bytes, to, toPort) => {
          if (!this.reaches(to)) return false;
          net.send(bytes, to.includes(':') && this.ip6 !== '' ? this.ip6 : ip, port, to, toPort);
          return true;
        },
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

function query(packet: Packet): BDict | null {
  const message = decode(packet.bytes);
  return message instanceof BDict && message.text('y') === 'q' ? message : null;
}

function put(node: Node, item: DhtItem, cas = -1): { stored: number; errors: [number, string][] } {
  let result: { stored: number; errors: [number, string][] } | null = null;
  node.dht.putItem(node.net.now, item, cas, {
    onDhtPut: (r) => {
      result = r;
    },
  });
  node.net.run(60_000, () => result !== null);
  return result!;
}

function get(node: Node, target: Uint8Array, key: ItemKey | null): { seen: [number, boolean][]; best: DhtItem | null } {
  const seen: [number, boolean][] = [];
  let best: DhtItem | null | undefined;
  node.dht.getItem(node.net.now, target, key, {
    onDhtItem: (item, authoritative) => seen.push([item.seq, authoritative]),
    onDhtItemDone: (item) => {
      best = item;
    },
  });
  node.net.run(60_000, () => best !== undefined);
  return { seen, best: best ?? null };
}

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
    // a seed has no use for it
    expect(nodes[5]!.peers(HASH, { port: 1, seed: true }).peers).toEqual([]);
  });

  it('works on one loopback address, on one network, and for two', () => {
    const addresses = [() => '127.0.0.1', (i: number) => `127.0.0.${1 + i}`, (i: number) => `fd00::${1 + i}`];
    for (const address of addresses) {
      const net = new Net();
      const nodes = net.closed(12, address);
      const announced = nodes[3]!.peers(HASH, { port: 0, seed: false });
      expect(announced.done!.announced).toBeGreaterThan(0);
      const found = nodes[9]!.peers(HASH, null);
      expect(found.peers).toHaveLength(1);
      // no port was given: the one its packets come from
      expect(found.peers[0]!.slice(-4)).toBe((2003).toString(16).padStart(4, '0'));
      expect(found.tookMs).toBeLessThan(300);
    }
    const [first, second] = new Net().closed(2, spread);
    expect(second!.peers(HASH, { port: 5, seed: false }).done!.announced).toBe(1);
    expect(first!.dht.stats.peersStored).toBe(1);
  });

  it('is not held up by those who died, and announces to those who live', () => {
    const net = new Net();
    const nodes = net.closed(30, spread);
    for (let i = 1; i < 30; i += 3) net.nodes.delete(`${nodes[i]!.ip} ${nodes[i]!.port}`);
    const announced = nodes[3]!.peers(HASH, { port: 7777, seed: false });
    expect(announced.done!.announced).toBe(8);
    expect(announced.tookMs).toBeLessThan(3000);
    expect(nodes[9]!.peers(HASH, null).peers).toHaveLength(1);
  });

  it('waits for a bootstrap node that is named late, and ends with nothing when none is', () => {
    const net = new Net();
    const nodes = net.closed(8, spread);
    nodes[3]!.peers(HASH, { port: 7777, seed: false });
    const late = net.add('99.1.1.1', 99);
    late.dht.start(net.now, { v4: true, v6: false });
    const found = new PeersResult();
    late.dht.getPeers(net.now, HASH, found, null);
    net.run(5000);
    expect([found.done, late.ready]).toEqual([null, 1]);
    late.dht.addRouter(net.now, nodes[0]!.ip, nodes[0]!.port);
    net.run(1000);
    expect([found.peers.length, found.done!.announced]).toEqual([1, 0]);

    const lonely = net.add('99.1.2.1', 99);
    lonely.dht.start(net.now, { v4: true, v6: true });
    const nothing = lonely.peers(HASH, { port: 1, seed: false });
    expect(nothing.done).toEqual({ queried: 0, answered: 0, announced: 0, hops: 0 });
    expect(nothing.tookMs).toBeLessThanOrEqual(10_000);
  });

  it('is joined through a node that a peer or torrent named', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    const fresh = net.add('99.1.1.1', 99);
    fresh.dht.start(net.now, { v4: true, v6: false });
    fresh.dht.addNode(net.now, nodes[7]!.ip, nodes[7]!.port);
    fresh.dht.addNode(net.now, '99.9.9.9', 9);
    net.run(5000);
    expect(fresh.dht.nodes(4).length).toBeGreaterThan(8);
    expect(fresh.dht.nodes(4).map((node) => node.ip)).not.toContain('99.9.9.9');
  });

  it('tells a command that is cancelled nothing more, and ends all on stop', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    nodes[3]!.peers(HASH, { port: 7777, seed: false });
    const [cancelled, stopped] = [new PeersResult(), new PeersResult()];
    const { dht } = nodes[9]!;
    const id = dht.getPeers(net.now, HASH, cancelled, null);
    dht.getPeers(net.now, HASH, stopped, null);
    dht.cancel(id);
    dht.cancel(id);
    dht.cancel(12345);
    dht.tick(net.now);
    dht.stop();
    expect([cancelled.done, stopped.done === null, dht.nextAt()]).toEqual([null, false, Number.POSITIVE_INFINITY]);
    net.run(60_000);
    expect([cancelled.peers, cancelled.done, dht.stats.lookups]).toEqual([[], null, 0]);
  });

  it('is spared: commands that are many come one after the other where all hear of all', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    const results: PeersResult[] = [];
    for (let i = 0; i < 40; i++) {
      const hash = Uint8Array.from(HASH, (byte) => byte ^ i);
      results.push(new PeersResult());
      nodes[5]!.dht.getPeers(net.now, hash, results[i]!, { port: 7000 + i, seed: false });
    }
    net.run(60_000);
    expect(results.every((result) => result.done!.announced === 8)).toBe(true);
    expect(nodes.every((node) => node.dht.stats.droppedIn === 0)).toBe(true);
  });
});

describe('two families', () => {
  it('find each other through one bootstrap node, and are looked up both', () => {
    const net = new Net();
    const nodes = Array.from({ length: 10 }, (_, i) => {
      const node = net.add(spread(i), 2000 + i);
      node.ip6 = `2001:db8:${i}::1`;
      net.nodes.set(`${node.ip6} ${node.port}`, node);
      return node;
    });
    // the first two know each other in both, the others only the first in v4
    nodes[1]!.dht.addRouter(net.now, nodes[0]!.ip6, nodes[0]!.port);
    for (const node of nodes) {
      node.dht.start(net.now, { v4: true, v6: true });
      if (node !== nodes[0]) node.dht.addRouter(net.now, nodes[0]!.ip, nodes[0]!.port);
    }
    net.run(20 * 60_000);
    for (const node of nodes) {
      expect(node.dht.stats.nodes4).toBeGreaterThan(5);
      expect(node.dht.stats.nodes6).toBeGreaterThan(5);
    }
    nodes[4]!.peers(HASH, { port: 7777, seed: false });
    expect(
      nodes[8]!
        .peers(HASH, null)
        .peers.map((peer) => peer.length)
        .sort(),
    ).toEqual([12, 36]);
  });

  it('do not wait for each other: one with dead bootstrap nodes alone holds nobody up', () => {
    const net = new Net();
    const [first] = net.closed(12, spread);
    const node = net.add('60.1.1.1', 3000);
    node.dht.addRouter(net.now, first!.ip, first!.port);
    node.dht.addRouter(net.now, '2001:db8:77::1', 6881);
    node.dht.start(net.now, { v4: true, v6: true });
    net.run(60_000);
    expect(node.peers(HASH, null).tookMs).toBeLessThan(300);
  });

  it('do not wait for each other: where nothing leaves over one of them, it is over at once', () => {
    const net = new Net();
    const [first] = net.closed(12, spread);
    const node = net.add('60.1.1.1', 3000);
    node.reaches = (ip) => !ip.includes(':');
    node.dht.start(net.now, { v4: true, v6: true });
    node.dht.addRouter(net.now, first!.ip, first!.port);
    node.dht.addRouter(net.now, '2001:db8:77::1', 6881);
    net.run(1000);
    expect(node.peers(HASH, null).tookMs).toBeLessThan(300);
  });

  it('are asked for by `want`, and answered in their own without', () => {
    const net = new Net();
    const node = net.add('30.1.1.1', 3000);
    node.ip6 = '2001:db8::1';
    node.dht.start(net.now, { v4: true, v6: true });
    for (const [ip, port] of [
      ['31.1.1.1', 1],
      ['2001:db8:1::1', 2],
    ] as const) {
      const other = net.add(ip, 2000 + port);
      other.dht.start(net.now, { v4: true, v6: true });
      other.dht.addRouter(net.now, ip.includes(':') ? node.ip6 : node.ip, node.port);
      net.nodes.set(`${node.ip6} ${node.port}`, node);
    }
    net.run(5000);
    const asked = (ip: string, want: string[] | undefined): string[] => {
      let reply: BDict | null = null;
      net.tap = (packet) => {
        if (packet.ip === ip) reply = decode(packet.bytes) as BDict;
        return packet.ip === ip;
      };
      const a = { id: new Uint8Array(20).fill(7), target: HASH, want };
      node.dht.datagram(net.now, encode({ t: 'zz', y: 'q', q: 'find_node', a, ro: 1 }), ip, 77);
      net.tap = null;
      return ['nodes', 'nodes6'].filter((key) => reply!.dict('r')!.has(key));
    };
    expect(asked('40.1.1.1', undefined)).toEqual(['nodes']);
    expect(asked('40.1.1.1', ['n6'])).toEqual(['nodes6']);
    expect(asked('2001:db8:9::1', undefined)).toEqual(['nodes6']);
    expect(asked('2001:db8:9::1', ['n4', 'n6', 'n8'])).toEqual(['nodes', 'nodes6']);
  });
});

describe('a read-only node (BEP 43)', () => {
  it('asks, says so, answers nobody and is in no table', () => {
    const net = new Net();
    const nodes = net.closed(8, spread);
    const quiet = net.add('99.1.1.1', 99, { readOnly: true });
    let replies = 0;
    net.tap = (packet) => {
      if (packet.fromIp !== quiet.ip) return false;
      const message = query(packet);
      if (message === null) replies++;
      else expect(message.int('ro')).toBe(1);
      return false;
    };
    quiet.dht.addRouter(net.now, nodes[0]!.ip, nodes[0]!.port);
    quiet.dht.start(net.now, { v4: true, v6: false });
    net.run(20_000);
    nodes[3]!.peers(HASH, { port: 7777, seed: false });
    expect(quiet.peers(HASH, { port: 5, seed: false }).peers).toHaveLength(1);
    quiet.dht.datagram(net.now, encode({ t: 'a', y: 'q', q: 'ping', a: { id: HASH } }), spread(2), 2002);
    expect(replies).toBe(0);
    for (const node of nodes) expect(node.dht.nodes(4).map((each) => each.ip)).not.toContain(quiet.ip);
  });
});

describe('the id', () => {
  it('follows the address that others see (BEP 42), and keeps the table', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    for (const node of nodes) {
      expect(node.external.ip4).toBe(node.ip);
      expect(idMatches(node.dht.nodeId(4), parseIp(node.ip)!)).toBe(true);
      expect(node.dht.stats.nodes4).toBeGreaterThan(8);
    }
    const { dht } = nodes[4]!;
    const before = dht.nodeId(4);
    dht.externalChanged(net.now, 4, nodes[4]!.ip);
    expect(dht.nodeId(4)).toBe(before);
    dht.externalChanged(net.now, 4, '77.1.2.3');
    expect(idMatches(dht.nodeId(4), parseIp('77.1.2.3')!)).toBe(true);
    expect(dht.stats.nodes4).toBeGreaterThan(8);
  });

  it('is saved with the nodes, which are asked again before they count', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    const saved = nodes[5]!.dht.save();
    net.nodes.delete(`${nodes[5]!.ip} ${nodes[5]!.port}`);
    net.nodes.delete(`${nodes[6]!.ip} ${nodes[6]!.port}`);
    const again = net.add(nodes[5]!.ip, nodes[5]!.port);
    expect(again.dht.restore(net.now, saved)).toBe(true);
    expect(again.dht.nodeId(4)).toEqual(nodes[5]!.dht.nodeId(4));
    expect(again.dht.stats.nodes4).toBe(0);
    again.dht.start(net.now, { v4: true, v6: false });
    net.run(5000);
    const known = again.dht.nodes(4).map((node) => node.ip);
    expect([known.length, known.includes(nodes[6]!.ip), again.ready]).toEqual([10, false, 1]);
  });
});

describe('a scrape (BEP 33)', () => {
  it('counts seeds and peers', () => {
    const net = new Net();
    const nodes = net.closed(30, spread);
    for (let i = 0; i < 20; i++) nodes[i]!.peers(HASH, { port: 7777, seed: i < 5 });
    let result: { seeds: number; peers: number; nodes: number } | null = null;
    nodes[25]!.dht.scrape(net.now, HASH, {
      onDhtScrape: (r) => {
        result = r;
      },
    });
    net.run(10_000, () => result !== null);
    expect([result!.seeds, result!.peers]).toEqual([5, 15]);
    expect(result!.nodes).toBeGreaterThanOrEqual(8);
  });
});

describe('items (BEP 44)', () => {
  const seed = Uint8Array.from({ length: 32 }, (_, i) => i);

  it('are stored and found: immutable ones of any size', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    for (const size of [1, 990]) {
      const item = makeImmutable(encode('x'.repeat(size)));
      expect(put(nodes[1]!, item)).toEqual({ stored: 8, errors: [] });
      // one who is known to nobody, so that nobody may send it much
      const stranger = net.add(`99.1.${size & 255}.1`, 99, { readOnly: true });
      stranger.dht.addRouter(net.now, nodes[3]!.ip, nodes[3]!.port);
      stranger.dht.start(net.now, { v4: true, v6: false });
      net.run(5000);
      const found = get(stranger, item.target, null);
      expect(found.seen).toEqual([[0, true]]);
      expect(found.best!.value).toEqual(item.value);
    }
    expect(get(nodes[2]!, HASH, null)).toEqual({ seen: [], best: null });
  });

  it('are stored and found: mutable ones, the newest of all', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    const salt = utf8Encode('salt');
    const [first, second] = [1, 2].map((seq) => makeMutable(crypto, seed, salt, seq, encode(`value ${seq}`)));
    const key = { publicKey: first!.publicKey!, salt };
    expect(put(nodes[1]!, first!).stored).toBe(8);
    // some miss the second one
    let lost = 0;
    net.tap = (packet) => query(packet)?.text('q') === 'put' && lost++ < 4;
    expect(put(nodes[2]!, second!).stored).toBe(4);
    net.tap = null;
    const found = get(nodes[9]!, first!.target, key);
    expect(found.best!.seq).toBe(2);
    expect(found.seen.at(-1)).toEqual([2, false]);
    expect(put(nodes[3]!, first!).errors.map(([code]) => code)).toEqual([302, 302, 302, 302]);
    const third = makeMutable(crypto, seed, salt, 3, encode('value 3'));
    const swapped = put(nodes[4]!, third, 1);
    expect([swapped.stored, swapped.errors.map(([code]) => code)]).toEqual([4, [301, 301, 301, 301]]);
  });
});

describe('sampling (BEP 51)', () => {
  it('tells what nodes store', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    const stored = new Set<string>();
    for (let i = 0; i < 30; i++) {
      const hash = Uint8Array.from(HASH, (byte) => byte ^ i);
      stored.add(toHex(hash));
      nodes[i % 12]!.peers(hash, { port: 7777, seed: false });
    }
    const seen = new Set<string>();
    let done = false;
    let total = 0;
    nodes[11]!.dht.sample(net.now, HASH, {
      onDhtSamples: (hashes, count, intervalS, ip, port) => {
        for (let at = 0; at < hashes.length; at += 20) seen.add(toHex(hashes.subarray(at, at + 20)));
        total = Math.max(total, count);
        expect(intervalS).toBeLessThanOrEqual(21_600);
        expect(parseEndpoint(`${ip}:${port}`)).not.toBe(null);
      },
      onDhtSampleDone: () => {
        done = true;
      },
    });
    net.run(10_000, () => done);
    expect(total).toBeGreaterThan(15);
    expect(seen.size).toBeGreaterThan(25);
    for (const hash of seen) expect(stored).toContain(hash);
  });
});

describe('upkeep', () => {
  it('finds out who left, and costs little', () => {
    const net = new Net();
    const nodes = net.closed(30, spread);
    const { dht } = nodes[0]!;
    expect(dht.stats.nodes4).toBeGreaterThan(25);
    for (let i = 20; i < 30; i++) net.nodes.delete(`${nodes[i]!.ip} ${nodes[i]!.port}`);
    const before = dht.stats.queriesOut;
    net.run(60 * 60_000);
    const out: string[] = [];
    net.tap = (packet) => {
      out.push(packet.ip);
      return false;
    };
    nodes[0]!.peers(HASH, null);
    const gone = nodes.slice(20).map((node) => node.ip);
    expect(out.filter((ip) => gone.includes(ip)).length).toBeLessThanOrEqual(2);
    expect(dht.stats.queriesOut - before).toBeLessThan(600);
  });

  it('comes back after an outage', () => {
    const net = new Net();
    const nodes = net.closed(12, spread);
    net.tap = () => true;
    net.run(3 * 60 * 60_000);
    net.tap = null;
    net.run(15 * 60_000);
    nodes[3]!.peers(HASH, { port: 7777, seed: false });
    expect(nodes[9]!.peers(HASH, null).peers).toHaveLength(1);
    for (const node of nodes) expect(node.dht.stats.nodes4).toBeGreaterThan(6);
  });
});
