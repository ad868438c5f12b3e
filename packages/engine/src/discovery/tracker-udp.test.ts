import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, readU16, readU32, toHex, utf8Encode, writeU32 } from '../base/bytes.ts';
import type { IoFault } from '../base/errors.ts';
import { parseIp } from '../base/ip.ts';
import { Rng } from '../base/random.ts';
import type { AnnounceAsk, AnnounceReply, ScrapeReply } from './tracker.ts';
import { type UdpTrackerSink, UdpTrackers } from './tracker-udp.ts';
import { announcePacket, connectPacket, parseUdpUrl } from './tracker-udp-packets.ts';

const HASH = Uint8Array.from({ length: 20 }, (_, i) => i + 1);
const PEER_ID = Uint8Array.from({ length: 20 }, (_, i) => 100 + i);

function announce(over: Partial<AnnounceAsk> = {}): AnnounceAsk {
  return {
    infoHash: HASH,
    peerId: PEER_ID,
    port: 6881,
    uploaded: 1,
    downloaded: 2,
    left: 3,
    event: 'started',
    numWant: 200,
    key: 0xcafebabe,
    trackerId: null,
    supportCrypto: false,
    ...over,
  };
}

const u32 = (...values: number[]): Uint8Array => {
  const bytes = new Uint8Array(4 * values.length);
  for (let i = 0; i < values.length; i++) writeU32(bytes, 4 * i, values[i]! >>> 0);
  return bytes;
};
const transactionOf = (bytes: Uint8Array): number => readU32(bytes, 12);
const actionOf = (bytes: Uint8Array): number => readU32(bytes, 8);
const PEERS4 = Uint8Array.of(9, 8, 7, 6, 0x1a, 0xe1);
const PEERS6 = concat([parseIp('2600::5')!, Uint8Array.of(0x1a, 0xe2)]);

interface Sent {
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly ip: string;
  readonly port: number;
}

/** The machine and everything it said, on a clock that the test moves. */
class Bench implements UdpTrackerSink {
  now = 1000;
  sendable = true;
  readonly sent: Sent[] = [];
  readonly announced: { readonly id: number; readonly reply: AnnounceReply; readonly ip: string }[] = [];
  readonly scraped: { readonly id: number; readonly replies: readonly ScrapeReply[] }[] = [];
  readonly faults: { readonly id: number; readonly at: number; readonly fault: IoFault }[] = [];
  readonly machine: UdpTrackers;

  constructor(seed = 1) {
    const rng = new Rng(Uint32Array.of(seed, 2, 3, 4));
    this.machine = new UdpTrackers({ random: rng, sink: this });
  }

  onUdpTrackerSend(bytes: Uint8Array, ip: string, port: number): boolean {
    if (this.sendable) this.sent.push({ at: this.now, bytes: bytes.slice(), ip, port });
    return this.sendable;
  }
  onUdpTrackerAnnounce(id: number, reply: AnnounceReply, ip: string): void {
    this.announced.push({ id, reply, ip });
  }
  onUdpTrackerScrape(id: number, replies: readonly ScrapeReply[]): void {
    this.scraped.push({ id, replies });
  }
  onUdpTrackerFault(id: number, fault: IoFault): void {
    this.faults.push({ id, at: this.now, fault });
  }

  ask(id: number, over: { addresses?: string[]; timeoutMs?: number; data?: string; ask?: Partial<AnnounceAsk> } = {}) {
    this.machine.ask(this.now, {
      id,
      addresses: over.addresses ?? ['5.6.7.8'],
      port: 80,
      data: utf8Encode(over.data ?? ''),
      timeoutMs: over.timeoutMs ?? 30_000,
      announce: announce(over.ask),
      scrape: [],
    });
  }
  scrape(id: number, hashes: Uint8Array[]): void {
    const addresses = ['5.6.7.8'];
    this.machine.ask(this.now, {
      id,
      addresses,
      port: 80,
      data: utf8Encode(''),
      timeoutMs: 15_000,
      announce: null,
      scrape: hashes,
    });
  }
  /** The oldest datagram not looked at yet. */
  next(): Sent {
    const first = this.sent.shift();
    if (first === undefined) throw new Error('nothing was sent');
    return first;
  }
  answer(to: Sent, bytes: Uint8Array, ip = to.ip, port = to.port): boolean {
    return this.machine.datagram(this.now, bytes, ip, port);
  }
  connected(to: Sent, id = 0x11223344): void {
    expect(toHex(to.bytes.subarray(0, 12))).toBe('000004172710198000000000');
    expect(to.bytes.length).toBe(16);
    expect(this.answer(to, u32(0, transactionOf(to.bytes), id, id))).toBe(true);
  }
  /** Lets time pass to there, tick by tick, as the owner would. */
  until(end: number): void {
    while (this.machine.nextAt() <= end) {
      this.now = Math.max(this.now, this.machine.nextAt());
      this.machine.tick(this.now);
    }
    this.now = end;
  }
}

describe('an exchange', () => {
  it('connects, announces with every field in its place, and reads the answer', () => {
    const b = new Bench();
    b.ask(7, { ask: { uploaded: 2 ** 40 + 5, downloaded: 2 ** 33, left: 77, event: 'completed' } });
    b.connected(b.next(), 0xaabbccdd);
    const { bytes, ip, port } = b.next();
    expect([ip, port, bytes.length]).toEqual(['5.6.7.8', 80, 98]);
    const transaction = toHex(bytes.subarray(12, 16));
    expect(toHex(bytes)).toBe(
      `aabbccddaabbccdd00000001${transaction}${toHex(HASH)}${toHex(PEER_ID)}` +
        '0000000200000000000000000000004d0000010000000005' +
        '0000000100000000cafebabe000000c81ae1',
    );
    const reply = concat([u32(1, transactionOf(bytes), 1800, 4, 9), PEERS4, PEERS4]);
    expect(b.machine.datagram(b.now, reply, ip, port)).toBe(true);
    expect(b.announced).toHaveLength(1);
    expect(b.announced[0]).toMatchObject({
      id: 7,
      ip: '5.6.7.8',
      reply: { failure: null, intervalMs: 1_800_000, minIntervalMs: 60_000, leechers: 4, seeders: 9 },
    });
    expect(b.announced[0]!.reply.peers4).toEqual(concat([PEERS4, PEERS4]));
    expect(b.machine.askCount).toBe(0);
    expect(b.machine.nextAt()).toBe(Number.POSITIVE_INFINITY);
  });

  it('the peers of an IPv6 tracker are 18 bytes each, by its address alone', () => {
    const b = new Bench();
    b.ask(1, { addresses: ['2600:0::1'] });
    const connect = b.next();
    expect(connect.ip).toBe('2600::1');
    b.connected(connect);
    const sent = b.next();
    b.answer(sent, concat([u32(1, transactionOf(sent.bytes), 1800, 0, 0), PEERS6, PEERS4]));
    expect(b.announced[0]!.reply.peers6).toEqual(PEERS6);
    expect(b.announced[0]!.reply.peers4).toHaveLength(0);
  });

  it('events, unknown sizes and a good-bye have their numbers', () => {
    const sent = (over: Partial<AnnounceAsk>) => announcePacket(new Uint8Array(8), 1, announce(over), utf8Encode(''));
    expect(
      ['', 'completed', 'started', 'stopped', 'paused'].map((event) => readU32(sent({ event: event as '' }), 80)),
    ).toEqual([0, 1, 2, 3, 0]);
    expect(readU32(sent({ left: -1 }), 68)).toBe(16384);
    expect(readU32(sent({ numWant: 0 }), 92)).toBe(0);
    expect(readU16(sent({ port: 0xfffe }), 96)).toBe(0xfffe);
  });

  it('intervals are made bearable, counts below zero are unknown', () => {
    for (const [said, heard] of [
      [0, 60_000],
      [-1, 60_000],
      [0x7fffffff, 86_400_000],
      [900, 900_000],
    ] as const) {
      const b = new Bench();
      b.ask(1);
      b.connected(b.next());
      const sent = b.next();
      b.answer(sent, u32(1, transactionOf(sent.bytes), said, -1, -5));
      expect(b.announced[0]!.reply).toMatchObject({ intervalMs: heard, seeders: null, leechers: null });
    }
  });

  it('an error is a refusal with its text, cleaned; of the connect too', () => {
    const b = new Bench();
    b.ask(1);
    b.ask(2);
    const connect = b.next();
    b.answer(connect, concat([u32(3, transactionOf(connect.bytes)), utf8Encode('go\u001b[31m away\n')]));
    expect(b.announced.map(({ id, reply }) => [id, reply.failure])).toEqual([
      [1, 'go [31m away'],
      [2, 'go [31m away'],
    ]);
    b.ask(3);
    b.connected(b.next());
    const sent = b.next();
    b.answer(sent, u32(3, transactionOf(sent.bytes)));
    expect(b.announced[2]!.reply.failure).toMatch(/no reason/);
  });
});

describe('connection ids', () => {
  it('are shared by all asks of an address, and kept for 60 s', () => {
    const b = new Bench();
    for (let id = 1; id <= 5; id++) b.ask(id);
    expect(b.sent).toHaveLength(1);
    b.connected(b.next());
    expect(b.sent.map(({ bytes }) => actionOf(bytes))).toEqual([1, 1, 1, 1, 1]);
    expect(new Set(b.sent.map(({ bytes }) => transactionOf(bytes))).size).toBe(5);
    for (const sent of b.sent.splice(0)) b.answer(sent, u32(1, transactionOf(sent.bytes), 60, 0, 0));
    expect(b.announced.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5]);
    b.now += 59_999;
    b.ask(6);
    expect(actionOf(b.next().bytes)).toBe(1);
    b.now += 1;
    b.ask(7);
    expect(actionOf(b.next().bytes)).toBe(0);
  });

  it('one the tracker has forgotten is got anew, once, before its refusal or silence counts', () => {
    for (const how of ['error', 'silence']) {
      const b = new Bench();
      b.ask(1);
      b.connected(b.next());
      const first = b.next();
      b.answer(first, u32(1, transactionOf(first.bytes), 60, 0, 0));
      b.ask(2);
      const old = b.next();
      const refusal = concat([u32(3, transactionOf(old.bytes)), utf8Encode('Connection ID missmatch')]);
      if (how === 'error') b.answer(old, refusal);
      else b.until(b.now + 15_000);
      const again = b.next();
      expect(actionOf(again.bytes)).toBe(0);
      expect(b.announced).toHaveLength(1);
      b.connected(again, 99);
      const fresh = b.next();
      expect(readU32(fresh.bytes, 0)).toBe(99);
      b.answer(fresh, concat([u32(3, transactionOf(fresh.bytes)), utf8Encode('no')]));
      expect(b.announced[1]!.reply.failure).toBe('no');
    }
  });

  it('nothing piles up for trackers that came and went', () => {
    const b = new Bench();
    for (let i = 0; i < 2000; i++) {
      b.ask(i, { addresses: [`5.6.${i >> 8}.${i & 255}`] });
      const connect = b.next();
      if (i % 2 === 0) b.connected(connect);
      b.machine.abandon(i);
      b.sent.length = 0;
      b.now += 1000;
    }
    expect(b.machine.askCount).toBe(0);
    expect(b.machine.serverCount).toBeLessThanOrEqual(256);
  });
});

describe('silence', () => {
  it('is met with 15 x 2^n s, no longer than the ask may take', () => {
    const b = new Bench();
    const from = b.now;
    b.ask(1, { timeoutMs: 300_000 });
    b.until(1e7);
    expect(b.sent.map(({ at }) => (at - from) / 1000)).toEqual([0, 15, 45, 105, 225]);
    expect(new Set(b.sent.map(({ bytes }) => transactionOf(bytes))).size).toBe(1);
    expect(b.faults).toHaveLength(1);
    expect(b.faults[0]).toMatchObject({ id: 1, at: from + 300_000, fault: { code: 'ETIMEOUT' } });
    expect(b.faults[0]!.fault.message).toBe('no answer from 5.6.7.8:80 within 300 s');
  });

  it('an ordinary ask is sent twice in its 30 s, and a short good-bye twice in its 5', () => {
    for (const timeoutMs of [30_000, 5000]) {
      const b = new Bench();
      const from = b.now;
      b.ask(1, { timeoutMs });
      b.until(1e7);
      expect(b.sent.map(({ at }) => at - from)).toEqual([0, timeoutMs / 2]);
      expect(b.faults[0]!.at).toBe(from + timeoutMs);
    }
  });

  it('a lost answer of either kind costs one wait, and a late one still counts', () => {
    const b = new Bench();
    b.ask(1);
    const lost = b.next();
    b.until(b.now + 15_000);
    b.next();
    b.connected(lost);
    const announced = b.next();
    b.until(b.now + 8000);
    const again = b.next();
    expect(again.bytes).toEqual(announced.bytes);
    b.answer(announced, u32(1, transactionOf(announced.bytes), 60, 0, 0));
    expect(b.announced).toHaveLength(1);
    b.answer(again, u32(1, transactionOf(again.bytes), 60, 0, 0));
    expect(b.announced).toHaveLength(1);
  });

  it('of one address leads to the next of the same name, each with its share of the time', () => {
    const b = new Bench();
    const from = b.now;
    b.ask(1, { addresses: ['5.5.5.1', '5.5.5.2', '5.5.5.3'] });
    b.until(from + 25_000);
    expect(b.sent.map(({ at, ip }) => [at - from, ip])).toEqual([
      [0, '5.5.5.1'],
      [10_000, '5.5.5.2'],
      [20_000, '5.5.5.3'],
      [25_000, '5.5.5.3'],
    ]);
    b.connected(b.sent.pop()!);
    const sent = b.sent.pop()!;
    b.answer(sent, u32(1, transactionOf(sent.bytes), 60, 0, 0));
    expect(b.announced[0]!.ip).toBe('5.5.5.3');
  });

  it('who answered before is asked first', () => {
    const b = new Bench();
    b.ask(1, { addresses: ['5.5.5.2'] });
    b.connected(b.next());
    b.machine.abandon(1);
    b.sent.length = 0;
    b.now += 600_000;
    b.ask(2, { addresses: ['5.5.5.1', '5.5.5.2', '5.5.5.3'], timeoutMs: 5000 });
    expect(b.next().ip).toBe('5.5.5.2');
    b.until(b.now + 3000);
    expect(b.next().ip).toBe('5.5.5.1');
  });

  it('many asks of one dead address send few datagrams', () => {
    const b = new Bench();
    for (let id = 0; id < 200; id++) {
      b.now += 10;
      b.ask(id);
    }
    b.until(b.now + 40_000);
    expect(b.faults).toHaveLength(200);
    expect(b.sent.length).toBeLessThan(6);
    expect(b.machine.serverCount).toBe(0);
  });
});

describe('what cannot be sent', () => {
  it('is tried again soon, then fails; an address nobody can have fails at once', () => {
    const b = new Bench();
    b.sendable = false;
    b.ask(1);
    b.until(b.now + 1000);
    b.sendable = true;
    b.until(b.now + 1000);
    expect(b.sent).toHaveLength(1);
    b.sendable = false;
    b.ask(2, { addresses: ['5.6.7.9'] });
    b.until(b.now + 2500);
    expect(b.faults[0]).toMatchObject({ id: 2, fault: { code: 'ENETUNREACH' } });
    b.sendable = true;
    b.faults.length = 0;
    b.sendable = false;
    b.ask(4, { addresses: ['5.6.7.10', '5.6.7.11'] });
    b.until(b.now + 1500);
    b.sendable = true;
    b.until(b.now + 1000);
    expect(b.sent.pop()!.ip).toBe('5.6.7.10');
    b.machine.abandon(4);
    for (const address of ['0.0.0.0', '224.0.0.1', '255.255.255.255', '::', 'ff02::1', 'nonsense']) {
      b.faults.length = 0;
      b.ask(3, { addresses: [address] });
      b.until(b.now);
      expect(b.faults).toHaveLength(1);
    }
    expect(b.sent).toHaveLength(1);
  });
});

describe('strangers', () => {
  it('a wrong sender, port or transaction is nothing of ours (T8)', () => {
    const b = new Bench();
    b.ask(1);
    const connect = b.next();
    const reply = u32(0, transactionOf(connect.bytes), 1, 2);
    expect(b.answer(connect, reply, '5.6.7.9')).toBe(false);
    expect(b.answer(connect, reply, connect.ip, 81)).toBe(false);
    expect(b.answer(connect, u32(0, transactionOf(connect.bytes) ^ 1, 1, 2))).toBe(false);
    expect(b.sent).toHaveLength(0);
    b.connected(connect);
    const sent = b.next();
    const poison = concat([u32(1, transactionOf(sent.bytes), 60, 0, 0), PEERS4]);
    expect(b.answer(sent, poison, '6.6.6.6')).toBe(false);
    expect(b.answer(sent, concat([u32(1, transactionOf(sent.bytes) + 1, 60, 0, 0), PEERS4]))).toBe(false);
    expect(b.announced).toHaveLength(0);
  });

  it('short answers and answers of another kind are passed over', () => {
    const b = new Bench();
    b.ask(1);
    const connect = b.next();
    expect(b.answer(connect, u32(0, transactionOf(connect.bytes), 1))).toBe(true);
    expect(b.answer(connect, u32(1, transactionOf(connect.bytes), 1, 2, 3))).toBe(true);
    expect(b.sent).toHaveLength(0);
    b.connected(connect);
    const sent = b.next();
    expect(b.answer(sent, u32(1, transactionOf(sent.bytes), 60, 0))).toBe(true);
    expect(b.answer(sent, u32(2, transactionOf(sent.bytes), 60, 0, 0))).toBe(true);
    expect(b.announced).toHaveLength(0);
    b.answer(sent, u32(1, transactionOf(sent.bytes), 60, 0, 0));
    expect(b.announced).toHaveLength(1);
  });

  it('no bytes make it throw, and every ask ends once', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            action: fc.oneof(fc.nat({ max: 5 }), fc.nat()),
            body: fc.uint8Array({ maxLength: 64 }),
            which: fc.nat({ max: 7 }),
            waitMs: fc.nat({ max: 9000 }),
            right: fc.boolean(),
          }),
          { maxLength: 60 },
        ),
        (steps) => {
          const b = new Bench();
          for (let id = 1; id <= 3; id++) b.ask(id, { addresses: ['5.6.7.8', '2600::1'] });
          b.scrape(4, [HASH, PEER_ID]);
          for (const { action, body, which, waitMs, right } of steps) {
            const to = b.sent[which % b.sent.length]!;
            const transaction = transactionOf(to.bytes) ^ (right ? 0 : which);
            b.answer(to, concat([u32(action, transaction), body]));
            b.answer(to, body);
            b.until(b.now + waitMs);
          }
          b.until(1e9);
          const ended = [...b.announced, ...b.scraped, ...b.faults].map(({ id }) => id).sort();
          expect(ended).toEqual([1, 2, 3, 4]);
          expect(b.machine.askCount).toBe(0);
          for (const { reply } of b.announced) {
            expect(reply.intervalMs).toBeGreaterThanOrEqual(60_000);
            expect(reply.peers4.length % 6).toBe(0);
            expect(reply.peers6.length % 18).toBe(0);
          }
        },
      ),
    );
  });
});

describe('scrape', () => {
  it('asks for 74 in one packet and reads each', () => {
    const b = new Bench();
    const hashes = Array.from({ length: 74 }, (_, i) => new Uint8Array(20).fill(i));
    b.scrape(1, hashes);
    b.connected(b.next());
    const { bytes, ip, port } = b.next();
    expect([bytes.length, actionOf(bytes)]).toEqual([16 + 74 * 20, 2]);
    expect(bytes.subarray(16 + 20 * 73)).toEqual(hashes[73]);
    const counts = Array.from({ length: 73 }, (_, i) => u32(i, 2 * i, 3 * i));
    b.machine.datagram(b.now, concat([u32(2, transactionOf(bytes)), ...counts]), ip, port);
    const { replies } = b.scraped[0]!;
    expect(replies).toHaveLength(74);
    expect(replies[72]).toMatchObject({ failure: null, seeders: 72, completed: 144, leechers: 216 });
    expect(replies[73]!.failure).toMatch(/leaves this torrent out/);
    expect(() => b.scrape(2, [...hashes, HASH])).toThrow();
    b.scrape(3, [HASH]);
    const sent = b.next();
    b.answer(sent, concat([u32(2, transactionOf(sent.bytes)), u32(1, 2, 3), u32(4, 5, 6)]));
    expect(b.scraped[1]!.replies).toHaveLength(1);
  });

  it('a refused one says why', () => {
    const b = new Bench();
    b.scrape(1, [HASH]);
    b.connected(b.next());
    const sent = b.next();
    b.answer(sent, concat([u32(3, transactionOf(sent.bytes)), utf8Encode('whitelist')]));
    expect(b.scraped[0]!.replies[0]!.failure).toBe('whitelist');
  });
});

describe('abandoning', () => {
  it('says whether the tracker may have heard it', () => {
    const b = new Bench();
    b.ask(1);
    expect(b.machine.abandon(1)).toBe(false);
    b.sent.length = 0;
    b.ask(2);
    b.connected(b.next());
    const sent = b.next();
    expect(b.machine.abandon(2)).toBe(true);
    expect(b.machine.abandon(2)).toBe(false);
    expect(b.answer(sent, u32(1, transactionOf(sent.bytes), 60, 0, 0))).toBe(false);
    b.until(1e9);
    expect([b.announced, b.faults]).toEqual([[], []]);
  });
});

describe('URL data (BEP 41)', () => {
  const options = (data: string): Uint8Array =>
    announcePacket(new Uint8Array(8), 1, announce(), utf8Encode(data)).subarray(98);

  it('path and query follow the announce, none where there is none', () => {
    expect(options('')).toHaveLength(0);
    expect(options('/announce?a=b')).toEqual(concat([Uint8Array.of(2, 13), utf8Encode('/announce?a=b')]));
  });

  it('what is longer than 255 goes into several options', () => {
    for (const length of [254, 255, 256, 510, 511, 1900]) {
      const text = `/${'k'.repeat(length - 2)}e`;
      const bytes = options(text);
      let joined = '';
      let at = 0;
      while (at < bytes.length) {
        expect(bytes[at]).toBe(2);
        const size = bytes[at + 1]!;
        joined += String.fromCharCode(...bytes.subarray(at + 2, at + 2 + size));
        at += 2 + size;
      }
      expect(joined).toBe(text);
    }
  });

  it('URLs are taken apart, and odd ones refused', () => {
    const read = (url: string): unknown => {
      const parsed = parseUdpUrl(url);
      return parsed === null ? null : [parsed.host, parsed.port, String.fromCharCode(...parsed.data)];
    };
    expect(read('udp://t.example:6969')).toEqual(['t.example', 6969, '']);
    expect(read('UDP://u:p@t.example:1/announce?passkey=a%20b#x')).toEqual(['t.example', 1, '/announce?passkey=a%20b']);
    expect(read('udp://[2600:0:0::1]:80/announce')).toEqual(['2600::1', 80, '/announce']);
    expect(read('udp://t.example:80?k=1')).toEqual(['t.example', 80, '?k=1']);
    for (const bad of [
      'udp://t.example',
      'udp://t.example/announce',
      'udp://t.example:0',
      'udp://t.example:65536',
      'udp://t.example:80x',
      'udp://[::1:80',
      'udp://[zz]:80',
      'udp://:80',
      'http://t.example:80',
    ]) {
      expect([bad, read(bad)]).toEqual([bad, null]);
    }
  });
});

it('a connect begins with the magic of BEP 15', () => {
  expect(toHex(connectPacket(0x01020304))).toBe('00000417271019800000000001020304');
});

describe('a name that only a proxy looks up', () => {
  const NAME = '198.18.0.1';

  it('is connected to by name, and asked where it answered from', () => {
    const b = new Bench();
    b.ask(1, { addresses: [NAME] });
    const connect = b.next();
    expect(connect.ip).toBe(NAME);
    const yes = u32(0, transactionOf(connect.bytes), 5, 5);
    expect(b.answer(connect, yes, '9.9.9.9', 81)).toBe(false);
    expect(b.answer(connect, u32(0, transactionOf(connect.bytes) + 1, 5, 5), '9.9.9.9')).toBe(false);
    expect(b.answer(connect, yes, '9.9.9.9')).toBe(true);
    const asked = b.next();
    expect(asked.ip).toBe('9.9.9.9');
    const reply = concat([u32(1, transactionOf(asked.bytes), 1800, 4, 9), PEERS4]);
    expect(b.answer(asked, reply, '9.9.9.8')).toBe(false);
    expect(b.answer(asked, reply, '9.9.9.9')).toBe(true);
    expect(b.announced[0]).toMatchObject({ id: 1, ip: '9.9.9.9' });
    expect(b.announced[0]!.reply.peers4).toEqual(PEERS4);
  });

  it('is asked by name again for its next connect, and may answer from IPv6', () => {
    const b = new Bench();
    b.ask(1, { addresses: [NAME] });
    b.answer(b.sent[0]!, u32(0, transactionOf(b.next().bytes), 5, 5), '9.9.9.9');
    b.answer(b.sent[0]!, u32(1, transactionOf(b.next().bytes), 1800, 4, 9), '9.9.9.9');
    b.until(b.now + 70_000);
    b.ask(2, { addresses: [NAME] });
    const connect = b.next();
    expect(connect.ip).toBe(NAME);
    b.answer(connect, u32(0, transactionOf(connect.bytes), 6, 6), '2600::9');
    const asked = b.next();
    b.answer(asked, concat([u32(1, transactionOf(asked.bytes), 1800, 4, 9), PEERS6]), '2600::9');
    expect(b.announced[1]!.reply.peers6).toEqual(PEERS6);
  });
});
