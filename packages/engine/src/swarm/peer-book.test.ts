import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PeerFault } from '../base/errors.ts';
import { parseIp } from '../base/ip.ts';
import { Rng } from '../base/random.ts';
import { AddressRules, BAN_MS } from './address-rules.ts';
import { CandidateSource, PeerBook } from './peer-book.ts';
import { peerPriority } from './peer-priority.ts';

const { Tracker, Pex, Dht, Manual, Magnet, Resume, Lsd } = CandidateSource;

function book(limit?: number, rules: AddressRules = new AddressRules({ now: 0 })): PeerBook {
  const b = new PeerBook(new Rng(Uint32Array.of(5, 6, 7, 8)), rules, limit);
  rules.onBlocked = () => b.dropBlocked();
  return b;
}

function priority(a: string, b: string, aPort = 0, bPort = 0): number {
  return peerPriority(parseIp(a)!, aPort, parseIp(b)!, bPort);
}

test('the vectors of BEP 40, the same from both ends', () => {
  expect(priority('123.213.32.10', '98.76.54.32')).toBe(0xec2d7224);
  expect(priority('123.213.32.10', '123.213.32.234')).toBe(0x99568189);
  expect(priority('98.76.54.32', '123.213.32.10')).toBe(0xec2d7224);
  expect(priority('10.0.0.1', '10.0.0.1', 1, 2)).toBe(priority('10.0.0.1', '10.0.0.1', 2, 1));
  expect(priority('10.0.0.1', '10.0.0.1', 1, 2)).not.toBe(priority('10.0.0.1', '10.0.0.1', 1, 3));
  expect(priority('1.2.3.4', '2001:db8::1')).toBe(0);
  expect(priority('2001:db8:1::1', '2001:db9:1::1')).not.toBe(priority('2001:db8:1::1', '2001:db9:3::1'));
  // bits that the mask leaves out change nothing, those of an equal prefix do
  expect(priority('2001:db8:1::1', '2001:db9:1:aaaa::1')).toBe(priority('2001:db8:1::1', '2001:db9:1::1'));
  expect(priority('2001:db8:1::1', '2001:db8:1:aaaa::1')).not.toBe(priority('2001:db8:1::1', '2001:db8:1:ab00::1'));
});

test('an endpoint stands once, in whatever form it comes; unusable ones do not', () => {
  const b = book();
  expect(b.add('10.1.2.3', 6881, Tracker)).toBe(true);
  expect(b.add('::ffff:10.1.2.3', 6881, Pex)).toBe(false);
  expect(b.add(Uint8Array.of(10, 1, 2, 3), 6881, Dht)).toBe(false);
  expect(b.add('10.1.2.3', 6882, Pex)).toBe(true);
  expect(b.sources(b.find('10.1.2.3', 6881))).toBe(Tracker | Pex | Dht);
  for (const [ip, port] of [
    ['0.0.0.0', 1],
    ['224.0.0.1', 1],
    ['1.2.3.4', 0],
    ['1.2.3.4', 65536],
    ['x', 1],
    ['1.2.3.4', Number.NaN],
  ] as const) {
    expect(b.add(ip, port, Tracker)).toBe(false);
  }
  expect(b.addCompact(Uint8Array.of(1, 1, 1, 1, 0, 5, 1, 1, 1, 1, 0, 0, 9, 9), 4, Tracker)).toBe(1);
  expect(b.count).toBe(3);
  expect(b.endpoint(b.find('1.1.1.1', 5))).toEqual({ ip: '1.1.1.1', port: 5 });
});

test('the order: given by a person, then fewest failures, then source, then BEP 40', () => {
  const b = book();
  b.setExternal('123.213.32.10', 1);
  for (let i = 1; i < 12; i++) b.add(`98.76.5.${i}`, 1000, Pex);
  b.add('98.0.0.1', 1, Dht);
  b.add('98.0.0.2', 1, Tracker);
  b.add('98.0.0.3', 1, Magnet);
  const order: string[] = [];
  for (let i = b.next(0); i >= 0; i = b.next(0)) {
    order.push(b.endpoint(i).ip);
    b.dialed(i, 0);
  }
  expect(order.slice(0, 3)).toEqual(['98.0.0.3', '98.0.0.2', '98.0.0.1']);
  const pex = order.slice(3);
  const sorted = [...pex].sort((x, y) => priority('123.213.32.10', y, 1, 1000) - priority('123.213.32.10', x, 1, 1000));
  expect(pex).toEqual(sorted);
});

/** Times of dialing one candidate that always fails. */
function dials(b: PeerBook, ip: string, until: number): number[] {
  const times: number[] = [];
  for (let now = 0; now < until; ) {
    const i = b.next(now);
    if (i < 0) {
      const at = b.nextAt(now);
      expect(at).toBeGreaterThan(now);
      now = at;
      continue;
    }
    if (b.endpoint(i).ip === ip) times.push(now);
    b.dialed(i, now);
    b.failed(i, now);
  }
  return times;
}

test('back-off: seconds for one a person gave or the only one, minutes in a crowd', () => {
  const quick = [0, 1000, 3000, 7000, 15_000, 31_000, 63_000, 123_000, 183_000];
  const alone = book();
  alone.add('1.0.0.1', 1, Tracker);
  expect(dials(alone, '1.0.0.1', 200_000)).toEqual(quick);
  const crowd = book();
  for (let i = 1; i < 30; i++) crowd.add(`1.0.0.${i}`, 1, Tracker);
  crowd.add('2.0.0.1', 1, Manual);
  expect(dials(crowd, '2.0.0.1', 200_000)).toEqual(quick);
  const again = book();
  for (let i = 1; i < 30; i++) again.add(`1.0.0.${i}`, 1, Tracker);
  expect(dials(again, '1.0.0.7', 40_000_000).slice(0, 8)).toEqual([0, 1, 3, 7, 15, 31, 63, 123].map((m) => m * 60_000));
});

test('hearsay that never answers is forgotten after an hour', () => {
  const b = book();
  for (let n = 0; n < 20; n++) {
    b.add(Uint8Array.of(11, 0, 0, n), 1, Pex);
    b.add(Uint8Array.of(12, 0, 0, n), 1, Tracker);
  }
  b.add('12.0.0.1', 1, Dht);
  expect(dials(b, '11.0.0.3', 20_000_000)).toEqual([0, 1, 3, 7, 15, 31].map((m) => m * 60_000));
  expect(b.counts()).toMatchObject({ tracker: 20, pex: 0, dht: 1 });
});

test('after a connection: soon if it was a good one, late if useless, with back-off if it was short', () => {
  const spend = (lastedMs: number, fault: PeerFault): number => {
    const b = book();
    for (let i = 1; i < 30; i++) b.add(`1.0.0.${i}`, 1, Tracker);
    const i = b.next(0);
    b.dialed(i, 0);
    b.connected(i, 0);
    b.disconnected(i, lastedMs, fault);
    for (let now = lastedMs; ; now += 1000) {
      for (let next = b.next(now); next >= 0; next = b.next(now)) {
        if (next === i) return now - lastedMs;
        b.dialed(next, now);
      }
    }
  };
  expect(spend(100_000, PeerFault.Closed)).toBe(5000);
  expect(spend(1000, PeerFault.Closed)).toBe(60_000);
  expect(spend(100_000, PeerFault.BadLength)).toBe(60_000);
  expect(spend(100_000, PeerFault.Redundant)).toBe(1_800_000);
  expect(spend(1000, PeerFault.Evicted)).toBe(0);
});

test('bans hold for an hour, for every port and every source, and end', () => {
  const turn = { now: 1000 };
  const rules = new AddressRules(turn);
  const b = book(undefined, rules);
  b.add('6.6.6.6', 1, Tracker);
  b.add('6.6.6.6', 2, Tracker);
  const i = b.find('6.6.6.6', 2);
  b.dialed(i, 0);
  b.connected(i, 0);
  rules.ban('6.6.6.6', 'lied');
  expect(b.count).toBe(1);
  b.disconnected(i, 1000, PeerFault.Corrupt);
  expect(b.count).toBe(0);
  expect(b.add('6.6.6.6', 3, Manual)).toBe(false);
  turn.now = 1000 + BAN_MS - 1;
  expect(b.add('6.6.6.6', 3, Tracker)).toBe(false);
  turn.now = 1000 + BAN_MS;
  expect(b.add('6.6.6.6', 3, Tracker)).toBe(true);
});

test('our own endpoint is dropped and refused', () => {
  const b = book();
  b.add('9.9.9.9', 7, Tracker);
  const i = b.next(0);
  b.dialed(i, 0);
  b.failed(i, 0);
  b.addOwn('9.9.9.9', 7);
  expect([b.count, b.dialingCount]).toEqual([0, 0]);
  expect(b.add('9.9.9.9', 7, Pex)).toBe(false);
  expect(b.add('9.9.9.9', 8, Pex)).toBe(true);
});

test('a poisoned list of 100,000 stays within 3,000 and does not hide a tracked or a proven peer (W17)', () => {
  const b = book();
  const draw = new Rng(Uint32Array.of(1, 2, 3, 4));
  let now = 0;
  b.add('5.5.5.5', 5, Resume);
  for (let n = 0; n < 100_000; n++) {
    const word = draw.u32();
    b.add(Uint8Array.of(11, word >>> 16, word >>> 8, word), 1 + (word % 60_000), Pex);
    if (n === 70_000) expect(b.add('4.4.4.4', 4, Tracker)).toBe(true);
    if (n % 50 === 0) {
      now += 1000;
      const i = b.next(now);
      if (b.endpoint(i).ip.startsWith('11.')) {
        b.dialed(i, now);
        b.failed(i, now);
      }
    }
    if (n % 1000 === 0) expect(b.count).toBeLessThanOrEqual(3000);
  }
  // half of it, and those two
  expect(b.count).toBe(1502);
  expect(b.find('4.4.4.4', 4)).toBeGreaterThanOrEqual(0);
  expect(b.find('5.5.5.5', 5)).toBeGreaterThanOrEqual(0);
});

test('floods of PEX and DHT leave alone what a tracker named, until it failed three times', () => {
  const b = book(400);
  const flood = (first: number, source: CandidateSource): void => {
    for (let n = 0; n < 2000; n++) b.add(Uint8Array.of(first, n >> 16, n >> 8, n), 1, source);
  };
  for (let n = 0; n < 100; n++) b.add(Uint8Array.of(8, 0, 0, n), 1, Tracker);
  let now = 0;
  const failAll = (): void => {
    for (let i = b.next(now); i >= 0; i = b.next(now)) {
      b.dialed(i, now);
      b.failed(i, now);
    }
    now += 3_600_000;
  };
  failAll();
  failAll();
  flood(11, Pex);
  expect(b.counts()).toMatchObject({ tracker: 100, pex: 200 });
  flood(12, Dht);
  expect(b.counts()).toMatchObject({ tracker: 100, dht: 200, pex: 100 });
  for (let n = 0; n < 250; n++) b.add(Uint8Array.of(9, 0, n >> 8, n), 1, Tracker);
  // what failed goes first, then the worse source
  expect(b.counts()).toMatchObject({ tracker: 250, dht: 150, pex: 0 });
  for (let n = 0; n < 3; n++) failAll();
  flood(13, Pex);
  expect(b.counts()).toMatchObject({ tracker: 200, pex: 200 });
});

test('every fourth dial is another source`s', () => {
  const b = book();
  for (let n = 0; n < 200; n++) {
    b.add(Uint8Array.of(11, 0, 0, n), 1, Dht);
    b.add(Uint8Array.of(12, 0, 0, n), 1, Pex);
  }
  let pex = 0;
  for (let n = 0; n < 100; n++) {
    const i = b.next(0);
    if (b.sources(i) === Pex) pex++;
    b.dialed(i, 0);
  }
  expect(pex).toBe(5);
});

test('each teller`s have their turn, one that comes late too, and who told most makes way', () => {
  const b = book(400);
  const tell = (teller: number, count: number): void => {
    for (let n = 0; n < count; n++) b.add(Uint8Array.of(11, teller, n >> 8, n), 1, Pex, teller);
  };
  const dials = (count: number): number[] => {
    const counts: number[] = [];
    for (let n = 0; n < count; n++) {
      const i = b.next(0);
      const teller = Number(b.endpoint(i).ip.split('.')[1]);
      counts[teller] = (counts[teller] ?? 0) + 1;
      b.dialed(i, 0);
    }
    return counts;
  };
  tell(1, 160);
  tell(2, 20);
  expect(dials(30).slice(1)).toEqual([15, 15]);
  tell(3, 10);
  // it is behind by the turn of the others that was just over
  expect(dials(16).slice(1)).toEqual([5, 5, 6]);
  tell(31, 2);
  expect(dials(6)[31]).toBe(2);
  tell(4, 3);
  for (let n = 0; n < 2000; n++) b.add(Uint8Array.of(12, 0, n >> 8, n), 1, Pex, 5 + (n % 5));
  expect(b.counts().pex).toBe(200);
  for (let n = 0; n < 3; n++) expect(b.find(`11.4.0.${n}`, 1)).toBeGreaterThanOrEqual(0);
});

test('of one public address strangers may name four ports, of a local one any number', () => {
  const b = book();
  for (let port = 1; port <= 100; port++) {
    b.add('93.184.216.34', port, Pex);
    b.add('2001:db8::1', port, Dht);
    b.add('127.0.0.1', port, Pex);
  }
  expect(b.counts()).toMatchObject({ pex: 104, dht: 4 });
  expect(b.add('93.184.216.34', 200, Tracker)).toBe(true);
});

test('one that came to us is known by the port it names, and dialed back once it is gone', () => {
  const rules = new AddressRules({ now: 0 });
  const b = book(undefined, rules);
  b.add('9.9.9.9', 1, Tracker);
  const known = b.addIncoming('9.9.9.9', 1, 0);
  const fresh = b.addIncoming('9.9.9.9', 2, 0);
  expect([b.isConnected(known), b.isConnected(fresh), b.next(0), b.connectedCount]).toEqual([true, true, -1, 2]);
  expect(b.addIncoming('9.9.9.9', 1, 0)).toBe(-1);
  expect(b.counts()).toMatchObject({ tracker: 1, incoming: 2 });
  b.disconnected(fresh, 60_000, PeerFault.Closed);
  expect(b.next(65_000)).toBe(fresh);
  b.dialed(fresh, 65_000);
  expect(b.addIncoming('9.9.9.9', 2, 65_000)).toBe(-1);
  // only one that was reached by dialing is worth remembering
  expect(b.proven(10)).toEqual([]);
  b.connected(fresh, 66_000);
  expect(b.proven(10)).toEqual([{ ip: '9.9.9.9', port: 2 }]);
  rules.ban('6.6.6.6', 'lied');
  b.addOwn('7.7.7.7', 7);
  expect([b.addIncoming('6.6.6.6', 1, 1), b.addIncoming('7.7.7.7', 7, 1), b.addIncoming('0.0.0.0', 1, 1)]).toEqual([
    -1, -1, -1,
  ]);
});

test('a torrent that turns out to be private forgets whom it should not know', () => {
  const b = book();
  b.add('1.0.0.1', 1, Tracker);
  b.add('1.0.0.1', 1, Pex);
  b.add('1.0.0.2', 1, Dht);
  b.add('1.0.0.3', 1, Lsd);
  b.add('1.0.0.4', 1, Magnet);
  b.add('1.0.0.5', 1, Manual);
  expect(b.counts()).toEqual({ tracker: 1, pex: 1, dht: 1, lsd: 1, magnet: 2, incoming: 0 });
  const dialing = b.find('1.0.0.3', 1);
  const connected = b.find('1.0.0.2', 1);
  b.dialed(dialing, 0);
  b.dialed(connected, 0);
  b.connected(connected, 0);
  expect(b.dropSources(Dht | Pex | Lsd | Magnet)).toBe(1);
  expect([b.sources(dialing), b.sources(connected), b.sources(b.find('1.0.0.1', 1))]).toEqual([0, 0, Tracker]);
  b.failed(dialing, 0);
  b.disconnected(connected, 0, PeerFault.Evicted);
  expect([b.count, b.find('1.0.0.5', 1) >= 0]).toEqual([2, true]);
  expect(b.counts()).toEqual({ tracker: 1, dht: 0, pex: 0, lsd: 0, magnet: 1, incoming: 0 });
});

test('the order of BEP 40 holds for each family by its own external address', () => {
  const b = book();
  b.setExternal('123.213.32.10', 1);
  b.setExternal('2001:db8:1::1', 1);
  b.add('98.76.54.32', 5, Tracker);
  b.add('2001:db9:1::1', 5, Tracker);
  expect(b.priority(b.find('98.76.54.32', 5))).toBe(0xec2d7224);
  expect(b.priority(b.find('2001:db9:1::1', 5))).toBe(priority('2001:db8:1::1', '2001:db9:1::1', 1, 5));
  b.setExternal('123.213.32.11', 1);
  expect(b.priority(b.find('98.76.54.32', 5))).toBe(priority('123.213.32.11', '98.76.54.32', 1, 5));
});

test('whatever comes, the counts are right and nobody is dialed before the time or twice', () => {
  const op = fc.tuple(fc.nat(6), fc.nat(40), fc.nat(7));
  fc.assert(
    fc.property(fc.array(op, { maxLength: 200, size: 'max' }), (ops) => {
      const turn = { now: 0 };
      const rules = new AddressRules(turn);
      const b = book(12, rules);
      const dialing = new Map<number, string>();
      const connected = new Map<number, string>();
      let now = 0;
      for (const [kind, a, c] of ops) {
        now += a * 300;
        turn.now = now;
        const first = <T>(map: Map<number, T>) => [...map.keys()][a % Math.max(1, map.size)];
        if (kind <= 1) b.add(`10.0.${a % 5}.${a}`, 1 + (a % 2), (1 << c) as CandidateSource);
        else if (kind === 2) {
          const i = b.next(now);
          if (i >= 0) {
            expect(b.isIdle(i)).toBe(true);
            const { ip, port } = b.endpoint(i);
            expect(rules.blocks(ip)).toBe(false);
            expect(b.find(ip, port)).toBe(i);
            b.dialed(i, now);
            dialing.set(i, `${ip} ${port}`);
          } else expect(b.nextAt(now)).toBeGreaterThan(now);
        } else if (kind === 3 && dialing.size > 0) {
          const i = first(dialing)!;
          if (c % 2 === 0) b.failed(i, now);
          else {
            b.connected(i, now);
            connected.set(i, dialing.get(i)!);
          }
          dialing.delete(i);
        } else if (kind === 4 && connected.size > 0) {
          const i = first(connected)!;
          b.disconnected(
            i,
            now,
            ([PeerFault.Closed, PeerFault.Redundant, PeerFault.Evicted, PeerFault.Flood] as const)[c % 4]!,
          );
          connected.delete(i);
        } else if (kind === 5 && c === 0) rules.ban(`10.0.${a % 5}.${a}`, '', 60_000);
        else if (kind === 6 && c === 0) b.setExternal(`1.2.3.${a}`, 9);
        else if (kind === 6 && c === 1) b.dropSources(Dht | Pex);
        else if (kind === 6 && c > 3) {
          const i = b.addIncoming(`10.0.${a % 5}.${a}`, 1 + (a % 2), now);
          if (i >= 0) connected.set(i, `10.0.${a % 5}.${a} ${1 + (a % 2)}`);
        }
        expect(b.dialingCount).toBe(dialing.size);
        expect(b.connectedCount).toBe(connected.size);
        expect(b.count).toBeLessThanOrEqual(12);
        expect(b.candidateCount).toBe(b.count - connected.size);
        // an index in use keeps its meaning
        for (const [i, text] of [...dialing, ...connected]) expect(Object.values(b.endpoint(i)).join(' ')).toBe(text);
      }
    }),
    { numRuns: 60 },
  );
});
