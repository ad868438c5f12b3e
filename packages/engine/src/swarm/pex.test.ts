/** What is told of whom (BEP 11), against a model that reads each message; and what is taken in (DEMANDS W17). */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PeerFault } from '../base/errors.ts';
import { formatIp, parseIp } from '../base/ip.ts';
import { Rng } from '../base/random.ts';
import { PexFlag, type PexMessage, parsePex } from '../wire/pex.ts';
import type { Peer } from './peer.ts';
import { PexExchange, type PexSink } from './pex.ts';

const NONE = new Uint8Array(0);

interface Told {
  readonly atMs: number;
  readonly added: Map<string, number>;
  readonly dropped: string[];
}

/** A peer as far as peer exchange looks at it, and what it was told. */
class Fake {
  readonly told: Told[] = [];
  /** Whom it believes connected. */
  readonly known = new Set<string>();
  readonly peer: Peer;
  readonly fields: { isSeed: boolean; uploadOnly: boolean; failedPieces: number; faulted: boolean };
  readonly remote: { listenPort: number; encryption: boolean | null } = { listenPort: -1, encryption: null };
  readonly supports = { pex: true, holepunch: false };
  fault = -1;

  constructor(scene: Scene, ip: string, port: number, incoming: boolean, utp = false) {
    const peer = {
      link: { remote: { ip, port }, incoming, utp, touch: () => {} },
      conversation: {
        remote: this.remote,
        supports: this.supports,
        pex: (body: Uint8Array) => this.#hear(parsePex(body)!, scene.now),
      },
      isSeed: false,
      uploadOnly: false,
      failedPieces: 0,
      faulted: false,
      pex: null,
      fault: (fault: number) => {
        this.fault = fault;
      },
    };
    this.fields = peer;
    this.peer = peer as unknown as Peer;
  }

  #hear(message: PexMessage, atMs: number): void {
    const added = new Map([
      ...listed(message.added4, 4).map((key, i): [string, number] => [key, message.flags4[i]!]),
      ...listed(message.added6, 16).map((key, i): [string, number] => [key, message.flags6[i]!]),
    ]);
    const dropped = [...listed(message.dropped4, 4), ...listed(message.dropped6, 16)];
    const limit = this.told.length === 0 ? 100 : 50;
    expect(added.size).toBe(message.flags4.length + message.flags6.length);
    expect(added.size).toBeLessThanOrEqual(limit);
    expect(dropped.length).toBeLessThanOrEqual(50);
    expect(added.size + dropped.length).toBeGreaterThan(0);
    for (const key of dropped) {
      expect(added.has(key)).toBe(false);
      expect(this.known.delete(key)).toBe(true);
    }
    for (const key of added.keys()) {
      expect(this.known.has(key)).toBe(false);
      this.known.add(key);
    }
    const last = this.told.at(-1);
    if (last !== undefined) expect(atMs - last.atMs).toBeGreaterThanOrEqual(60_000);
    this.told.push({ atMs, added, dropped });
  }
}

class Scene implements PexSink {
  now = 0;
  readonly exchange = new PexExchange(this, new Rng(Uint32Array.of(1, 2, 3, 4)));
  readonly fakes: Fake[] = [];
  readonly given: { keys: string[]; flags: number[] }[] = [];

  join(ip: string, port: number, incoming = false, utp = false): Fake {
    const fake = new Fake(this, ip, port, incoming, utp);
    this.fakes.push(fake);
    this.exchange.attach(fake.peer, this.now);
    return fake;
  }

  /** The extension handshake of an incoming peer. */
  listens(fake: Fake, port: number): void {
    fake.remote.listenPort = port;
    this.exchange.extended(fake.peer);
  }

  leave(fake: Fake): void {
    this.fakes.splice(this.fakes.indexOf(fake), 1);
    this.exchange.detach(fake.peer, this.now);
  }

  pass(ms: number): void {
    for (const end = this.now + ms; this.now < end; ) {
      this.now += 1000;
      const peers = this.fakes.map(({ peer }) => peer);
      this.exchange.tick(peers, this.now);
    }
  }

  hear(from: Fake, message: Partial<PexMessage>, wantsSeeds = true): void {
    const added4 = message.added4 ?? NONE;
    const added6 = message.added6 ?? NONE;
    const full = {
      added4,
      flags4: message.flags4 ?? new Uint8Array(added4.length / 6),
      added6,
      flags6: message.flags6 ?? new Uint8Array(added6.length / 18),
      dropped4: NONE,
      dropped6: NONE,
    };
    this.exchange.receive(from.peer, full, this.now, wantsSeeds);
  }

  onPexPeers(peers4: Uint8Array, flags4: Uint8Array, peers6: Uint8Array, flags6: Uint8Array): void {
    this.given.push({ keys: [...listed(peers4, 4), ...listed(peers6, 16)], flags: [...flags4, ...flags6] });
  }
}

function listed(bytes: Uint8Array, ipBytes: number): string[] {
  const keys: string[] = [];
  for (let at = 0; at < bytes.length; at += ipBytes + 2) {
    const port = (bytes[at + ipBytes]! << 8) | bytes[at + ipBytes + 1]!;
    keys.push(`${formatIp(bytes.subarray(at, at + ipBytes))} ${port}`);
  }
  return keys;
}

function compact(...endpoints: [string, number][]): Uint8Array {
  return Uint8Array.from(endpoints.flatMap(([ip, port]) => [...parseIp(ip)!, port >> 8, port & 255]));
}

/** `count` addresses 11.x.x.x from `first` on. */
function many(first: number, count: number): Uint8Array {
  return compact(...Array.from({ length: count }, (_, i): [string, number] => [ipOf(first + i), 1000]));
}

function ipOf(n: number): string {
  return `11.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
}

describe('what is told', () => {
  test('those we dialed, and those that came and named their port, with what is known of them', () => {
    const scene = new Scene();
    const first = scene.join('93.184.216.1', 6881);
    const seed = scene.join('93.184.216.2', 1, false, true);
    seed.fields.isSeed = true;
    seed.supports.holepunch = true;
    const named = scene.join('2001:db8::3', 50_000, true);
    scene.join('93.184.216.4', 50_001, true);
    scene.listens(named, 3);
    named.remote.encryption = true;
    named.fields.uploadOnly = true;
    scene.pass(2000);
    expect(first.told).toEqual([]);
    scene.pass(2000);
    expect(Object.fromEntries(first.told[0]!.added)).toEqual({
      '93.184.216.2 1': PexFlag.Seed | PexFlag.Utp | PexFlag.Holepunch | PexFlag.Reachable,
      '2001:db8::3 3': PexFlag.Encryption | PexFlag.Seed,
    });
    expect([...named.known]).toEqual(['93.184.216.1 6881', '93.184.216.2 1']);
  });

  test('changes once a minute, as long as there are any', () => {
    const scene = new Scene();
    const ear = scene.join('93.184.216.1', 1);
    scene.join('93.184.216.2', 1);
    scene.pass(10_000);
    expect(ear.told.length).toBe(1);
    const third = scene.join('93.184.216.3', 1);
    scene.pass(40_000);
    scene.leave(third);
    scene.join('93.184.216.4', 1);
    scene.pass(600_000);
    expect(ear.told.length).toBe(2);
    expect([...ear.told[1]!.added.keys(), ...ear.told[1]!.dropped]).toEqual(['93.184.216.4 1']);
    expect(ear.told[1]!.atMs - ear.told[0]!.atMs).toBeLessThanOrEqual(76_000);
    // one that leaves and comes back between two messages is none
    scene.leave(scene.fakes[1]!);
    scene.join('93.184.216.2', 1);
    scene.pass(200_000);
    expect(ear.told.length).toBe(2);
  });

  test('nobody who does not take it is told, and addresses of our own network stay in it', () => {
    const scene = new Scene();
    const outside = scene.join('93.184.216.1', 1);
    const deaf = scene.join('93.184.216.2', 1);
    deaf.supports.pex = false;
    const inside = scene.join('192.168.0.3', 1);
    const six = scene.join('fd00::4', 1);
    scene.pass(200_000);
    expect([...outside.known]).toEqual(['93.184.216.2 1']);
    expect(deaf.told).toEqual([]);
    expect([inside.known.size, six.known.size]).toEqual([3, 3]);
  });

  test('of those who leave all at once some are remembered', () => {
    const scene = new Scene();
    for (let n = 0; n < 40; n++) scene.join(ipOf(n), 1);
    for (const fake of [...scene.fakes].reverse()) scene.leave(fake);
    const ear = scene.join('93.184.216.1', 1);
    scene.pass(5000);
    expect(ear.told[0]!.added.size).toBe(25);
  });

  test('one that does not say where it listens is not told of its own address', () => {
    const scene = new Scene();
    scene.join('93.184.216.1', 6881);
    scene.join('93.184.216.2', 6881);
    scene.leave(scene.join('93.184.216.1', 7000));
    const ear = scene.join('93.184.216.1', 50_000, true);
    scene.pass(5000);
    expect([...ear.known]).toEqual(['93.184.216.2 6881']);
  });

  test('a hundred first, then fifty a minute, until all is told', () => {
    const scene = new Scene();
    for (let n = 0; n < 220; n++) scene.join(ipOf(n), 1);
    scene.pass(5000);
    const [ear] = scene.fakes;
    expect(ear!.told.map(({ added }) => added.size)).toEqual([100]);
    scene.pass(400_000);
    expect(ear!.told.map(({ added }) => added.size)).toEqual([100, 50, 50, 19]);
    for (const fake of scene.fakes.slice(100)) scene.leave(fake);
    scene.pass(400_000);
    expect(ear!.told.slice(4).map(({ dropped }) => dropped.length)).toEqual([50, 50, 20]);
    expect(ear!.known.size).toBe(99);
  });

  test('a fresh peer of a small swarm hears of those who just left, and in the next message that they did', () => {
    const scene = new Scene();
    for (let n = 0; n < 40; n++) scene.join(ipOf(n), 1);
    for (let n = 0; n < 3; n++) scene.join(`2001:db8::${n + 1}`, 1);
    scene.fakes[30]!.fields.failedPieces = 1;
    scene.fakes[31]!.fields.faulted = true;
    for (const fake of scene.fakes.slice(10)) scene.leave(fake);
    const ear = scene.join('93.184.216.1', 1);
    scene.pass(5000);
    // 10 live and as many more as make 25; the last who left are remembered, but for one that sent bad data
    expect(ear.told[0]!.added.size).toBe(25 + 3);
    for (const n of [30, 31]) expect(ear.told[0]!.added.has(`${ipOf(n)} 1`)).toBe(false);
    expect(ear.told[0]!.added.has(`${ipOf(10)} 1`)).toBe(false);
    scene.pass(80_000);
    expect(ear.told[1]!.dropped.length).toBe(18);
    scene.pass(600_000);
    const late = scene.join('93.184.216.2', 1);
    scene.pass(5000);
    expect(late.told[0]!.added.size).toBe(11);
  });

  test('whoever comes and goes: nobody is told twice, of himself, or of one who is not there; all know all in the end', () => {
    const step = fc.tuple(fc.nat(5), fc.nat(59), fc.nat(90));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
        const scene = new Scene();
        for (const [kind, a, seconds] of steps) {
          const { length } = scene.fakes;
          if (kind <= 2) {
            const ip = a % 7 === 0 ? `2001:db8::${a + 1}` : ipOf(a);
            const fake = scene.join(ip, 1, kind === 2);
            if (kind === 2 && a % 2 === 0) scene.listens(fake, 1);
          } else if (kind === 3 && length > 0) scene.leave(scene.fakes[a % length]!);
          else scene.pass(seconds * 1000);
        }
        scene.pass(600_000);
        const live = new Set<string>();
        for (const { peer, remote } of scene.fakes) {
          const { incoming, remote: at } = peer.link;
          if (!incoming) live.add(`${at.ip} ${at.port}`);
          else if (remote.listenPort > 0) live.add(`${at.ip} ${remote.listenPort}`);
        }
        for (const { peer, remote, known } of scene.fakes) {
          const own = `${peer.link.remote.ip} ${peer.link.incoming ? remote.listenPort : peer.link.remote.port}`;
          const silent = peer.link.incoming && remote.listenPort <= 0;
          const { ip } = peer.link.remote;
          const others = [...live].filter((key) => (silent ? !key.startsWith(`${ip} `) : key !== own));
          expect([...known].sort()).toEqual(others.sort());
        }
      }),
      { numRuns: 30 },
    );
  });

  test('the cost is that of the changes', () => {
    const scene = new Scene();
    for (let n = 0; n < 100; n++) scene.join(ipOf(n), 1);
    scene.pass(100_000);
    const from = scene.fakes.reduce((sum, { told }) => sum + told.length, 0);
    // one that comes and goes every minute: a message a minute to each at most, and each names one or two
    for (let n = 0; n < 10; n++) {
      const fake = scene.join(ipOf(1000 + n), 1);
      scene.pass(60_000);
      scene.leave(fake);
    }
    const messages = scene.fakes.flatMap(({ told }) => told.slice(1));
    expect(messages.length).toBeGreaterThan(0);
    expect(messages.length - from).toBeLessThanOrEqual(1000);
    for (const { added, dropped } of messages) expect(added.size + dropped.length).toBeLessThanOrEqual(4);
  });
});

describe('what is taken in', () => {
  test('hearsay, thinned: no private addresses from outside, one port of an address', () => {
    const scene = new Scene();
    const outside = scene.join('93.184.216.1', 1);
    const added4 = compact(['10.0.0.1', 1], ['5.5.5.5', 1], ['127.0.0.1', 2], ['5.5.5.5', 2], ['6.6.6.6', 3]);
    const added6 = compact(['fe80::1', 1], ['2001:db8::1', 1], ['2001:db8::1', 2]);
    scene.hear(outside, { added4, flags4: Uint8Array.of(1, 2, 3, 4, 5), added6, flags6: Uint8Array.of(6, 7, 8) });
    expect(scene.given).toEqual([{ keys: ['5.5.5.5 1', '6.6.6.6 3', '2001:db8::1 1'], flags: [2, 5, 7] }]);
    const inside = scene.join('10.0.0.9', 1);
    scene.hear(inside, { added4: compact(['10.0.0.1', 1], ['10.0.0.1', 2], ['8.8.8.8', 1]) });
    expect(scene.given[1]!.keys).toEqual(['10.0.0.1 1', '10.0.0.1 2', '8.8.8.8 1']);
    // a seed has no use for seeds
    scene.hear(inside, { added4: compact(['10.0.0.1', 1], ['10.0.0.2', 2]), flags4: Uint8Array.of(2, 16) }, false);
    expect(scene.given[2]!.keys).toEqual(['10.0.0.2 2']);
    scene.hear(inside, { added4: compact(['10.0.0.1', 1]), flags4: Uint8Array.of(2) }, false);
    expect(scene.given.length).toBe(3);
  });

  test('a hundred of the first message, fifty a minute after that, however often they come', () => {
    const scene = new Scene();
    const liar = scene.join('93.184.216.1', 1);
    const taken = (): number => scene.given.splice(0).reduce((sum, { keys }) => sum + keys.length, 0);
    scene.hear(liar, { added4: many(0, 100), added6: compact(['2001:db8::1', 1]) });
    expect(taken()).toBe(100);
    scene.hear(liar, { added4: many(100, 100) });
    expect(taken()).toBe(0);
    for (let n = 0; n < 60; n++) {
      scene.now += 12_000;
      scene.hear(liar, { added4: many(100 * n, 100) });
    }
    expect(taken()).toBe(600);
    scene.now += 3_600_000;
    scene.hear(liar, { added4: many(0, 100) });
    expect(taken()).toBe(50);
    expect(liar.fault).toBe(-1);
  });

  test('the seventh message within a minute closes the peer', () => {
    const scene = new Scene();
    const [early, late] = [scene.join('93.184.216.1', 1), scene.join('93.184.216.2', 1)];
    for (let n = 0; n < 6; n++) {
      scene.hear(early, {});
      scene.hear(late, {});
    }
    expect([early.fault, late.fault]).toEqual([-1, -1]);
    scene.now = 59_999;
    scene.hear(early, {});
    scene.now = 60_000;
    scene.hear(late, {});
    expect([early.fault, late.fault]).toEqual([PeerFault.Flood, -1]);
  });
});
