/** W1-W7 and W15 of the demands on real sockets: memory, delay of the event loop, and whether others are still served. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, type Made, makeFile, pause, sameBytes, until, World } from '../world/kit.ts';
import { extended, handshake, Id, many, message, Stranger, u32 } from './raw.ts';

const KIB = 1024;
const MIB = 1 << 20;
const PIECES = 64;
const BLOCK = 16384;

let world: World;
let made: Made;
let seed: Agent;
let peer: string;
let strangers: Stranger[];

beforeEach(async () => {
  world = new World();
  strangers = [];
  made = makeFile('good', PIECES * 256 * KIB);
  ({ agent: seed, peer } = await world.seed([made], { memory: 32 * MIB }));
  // what it needs when all goes well is there before anything is measured
  await download('warm');
});
afterEach(async () => {
  for (const stranger of strangers) stranger.close();
  await world.close();
});

function stranger(from = '127.0.0.1'): Stranger {
  const made = new Stranger(peer, from);
  strangers.push(made);
  return made;
}

function greeted(options: { fast?: boolean; has?: Uint8Array } = {}): Promise<Stranger> {
  return stranger().greet(made.infoHash, options);
}

/** An honest session gets all of it; gives how long it took. */
async function download(name: string): Promise<number> {
  const agent = world.agent();
  const folder = world.make(name);
  await agent.open();
  const from = performance.now();
  await agent.add(made, { folder, peers: [peer] });
  await agent.call('done', 0);
  const took = performance.now() - from;
  expect(sameBytes(made, folder)).toBe(true);
  await agent.end();
  return took;
}

interface Attacked {
  readonly rssMiB: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** What an attack costs: the most memory above what it was, and the delay of the event loop meanwhile. */
async function during(attack: () => Promise<unknown>): Promise<Attacked> {
  const before = (await seed.usage()).rss;
  let most = before;
  let over = false;
  const watch = (async () => {
    while (!over) {
      most = Math.max(most, (await seed.call<{ rss: number }>('usage', false)).rss);
      await pause(20);
    }
  })();
  try {
    await attack();
  } finally {
    over = true;
    await watch;
  }
  const { delayP99Ms, delayMaxMs } = await seed.usage();
  return { rssMiB: (most - before) / MIB, p99Ms: delayP99Ms, maxMs: delayMaxMs };
}

/** It lives, serves, and ends well, having said nothing on stderr. */
async function lives(): Promise<void> {
  expect(await download('after')).toBeLessThan(10_000);
  for (const each of strangers) each.close();
  await seed.end();
}

describe('W1, W2: what no peer says', () => {
  const nested = `d1:m${'d1:a'.repeat(1000)}i1e${'e'.repeat(1000)}e`;
  /** Name, bytes after the handshake and have none, whether the connection must end. */
  const breaches: readonly (readonly [string, Uint8Array, boolean])[] = [
    ['length of 4 GiB', Buffer.from([255, 255, 255, 255, 7]), true],
    ['length of 2 MiB', Buffer.from([0, 32, 0, 0, 20]), true],
    ['choke with a body', message(Id.Choke, 0), true],
    ['interested with a body', message(Id.Interested, Buffer.from([1])), true],
    ['have of 3 bytes', message(Id.Have, Buffer.from([0, 0, 1])), true],
    ['have of no piece', message(Id.Have, PIECES), true],
    ['have of piece 2^32 - 1', message(Id.Have, 0xffffffff), true],
    ['bitfield too long', message(Id.Bitfield, Buffer.alloc(9)), true],
    ['bitfield too short', message(Id.Bitfield, Buffer.alloc(7)), true],
    ['request of no piece', message(Id.Request, PIECES, 0, BLOCK), true],
    ['request past the end', message(Id.Request, 0, 256 * KIB - 1, BLOCK), true],
    ['request from 2^32 - 1', message(Id.Request, 0, 0xffffffff, BLOCK), true],
    ['request of nothing', message(Id.Request, 0, 0, 0), true],
    ['request of 4 GiB', message(Id.Request, 0, 0, 0xffffffff), true],
    ['request of 5 bytes', message(Id.Request, Buffer.alloc(5)), true],
    ['piece of no piece', message(Id.Piece, PIECES, 0, Buffer.alloc(10)), true],
    ['piece past the end', message(Id.Piece, 0, 256 * KIB - 5, Buffer.alloc(10)), true],
    ['piece without a block', message(Id.Piece, 0, 0), true],
    ['piece of 1 MiB', Buffer.concat([u32(MIB), Buffer.from([Id.Piece])]), true],
    ['cancel of 12 bytes', message(Id.Cancel, Buffer.alloc(11)), true],
    ['have none twice', message(Id.HaveNone), true],
    ['reject of what was not asked', message(Id.Reject, 0, 0, BLOCK), false],
    ['allowed fast of no piece', message(Id.AllowedFast, PIECES), true],
    ['suggest of no piece', message(Id.Suggest, 0x7fffffff), true],
    ['port of 1 byte', message(Id.Port, Buffer.from([1])), true],
    ['a message of no known kind', message(99, Buffer.alloc(1000)), false],
    ['extension without a number', message(Id.Extended), true],
    ['extension of no known number', extended(200, 'x'), false],
    ['extension handshake that is no bencode', extended(0, 'xyz'), true],
    ['extension handshake that is a list', extended(0, 'le'), true],
    ['extension handshake cut short', extended(0, 'd1:md'), true],
    ['extension handshake, nested', extended(0, nested), true],
    ['extension handshake, keys out of order', extended(0, 'd1:vi1e1:mdee'), false],
    ['metadata message that is no bencode', extended(1, 'xyz'), true],
    ['metadata piece -1', extended(1, 'd8:msg_typei0e5:piecei-1ee'), true],
    ['metadata piece 2^40', extended(1, 'd8:msg_typei0e5:piecei1099511627776ee'), true],
    ['dont have of no piece', extended(2, u32(PIECES)), true],
    ['dont have of 2 bytes', extended(2, Buffer.alloc(2)), true],
    ['upload only of 9 bytes', extended(3, Buffer.alloc(9)), true],
  ];

  it('each alone, and each after 1 MiB of good traffic: ends that connection at once, and nothing else', async () => {
    const wrong: string[] = [];
    const cost = await during(async () => {
      for (const afterTraffic of [false, true]) {
        for (const [name, bytes, ends] of breaches) {
          const each = await greeted();
          if (afterTraffic) {
            await each.unchoked();
            each.raw(many(64, (n) => message(Id.Request, n, 0, BLOCK)));
            await each.until(() => each.payloadBytes === MIB, 5000);
          }
          each.raw(bytes);
          // what comes after a legal oddity is understood
          if (!ends) each.send(Id.Request, 0, 0, BLOCK);
          const answered = each.heard[Id.Piece]! + each.heard[Id.Reject]!;
          const outcome = await Promise.race([
            each.closed.then(() => 'ended'),
            each
              .until(() => each.heard[Id.Piece]! + each.heard[Id.Reject]! > answered, 1000)
              .then(
                () => 'answered',
                () => (each.isOpen ? 'nothing' : 'ended'),
              ),
          ]);
          const right = ends ? 'ended' : 'answered';
          if (outcome !== right) wrong.push(`${name}${afterTraffic ? ' after traffic' : ''}: ${outcome}`);
          each.close();
        }
      }
    });
    expect(wrong).toEqual([]);
    expect(cost.rssMiB).toBeLessThanOrEqual(16);
    await lives();
  });

  it('handshakes of every wrong kind', async () => {
    const right = handshake(made.infoHash);
    const other = handshake('11'.repeat(20));
    const lower = Buffer.from(right);
    lower.write('\x13bittorrent protocol', 'latin1');
    const wrong: Uint8Array[] = [
      Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
      Buffer.alloc(68),
      Buffer.from('\x13BitTorrent protocoX'.padEnd(68, '\0'), 'latin1'),
      lower,
      other,
    ];
    // what may be the beginning of a key yet
    const undecided: Uint8Array[] = [
      Buffer.from([0]),
      Buffer.from([255]),
      Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]),
      Buffer.alloc(95, 0xa5),
    ];
    const cost = await during(async () => {
      for (const bytes of wrong) {
        const each = stranger();
        await each.opened;
        each.raw(bytes);
        await until(
          () => each.isOpen,
          (open) => !open,
          2000,
          `the end after ${bytes.subarray(0, 25)}`,
        );
        expect(each.greeted).toBe(false);
      }
      const waiting = undecided.map((bytes) => [stranger(), bytes] as const);
      for (const [each, bytes] of waiting) {
        await each.opened;
        each.raw(bytes);
      }
      for (const [each] of waiting) {
        await until(
          () => each.isOpen,
          (open) => !open,
          10_000,
          'the end of one that may have been a key',
        );
      }
      // all reserved bits set, and the handshake a byte at a time
      const odd = Buffer.from(right);
      odd.fill(255, 20, 28);
      const each = stranger();
      await each.opened;
      for (const byte of odd) {
        each.raw(Uint8Array.of(byte));
        await pause(2);
      }
      each.send(Id.HaveNone);
      await each.until(() => each.heard[Id.HaveAll]! > 0, 2000);
    });
    expect(cost.rssMiB).toBeLessThanOrEqual(16);
    await lives();
  });

  it('W2: a length of 4 GiB and more bytes after it: dropped at once, not a MiB held', async () => {
    const cost = await during(async () => {
      for (let i = 0; i < 20; i++) {
        const each = await greeted();
        each.raw(Buffer.from([255, 255, 255, 255, 7]));
        const at = performance.now();
        await each.pour(() => Buffer.alloc(65536), 3000);
        expect(each.isOpen).toBe(false);
        expect(each.closedAtMs - at).toBeLessThan(500);
      }
      // the longest message there may be, never finished, from 16 at once
      const holders = await Promise.all(Array.from({ length: 16 }, () => greeted()));
      for (const each of holders)
        each.raw(Buffer.concat([u32(MIB), Buffer.from([20, 0]), Buffer.alloc(MIB - 10, 'd')]));
      await pause(1000);
      for (const each of holders) each.close();
    });
    expect(cost.rssMiB).toBeLessThanOrEqual(48);
    await lives();
  });
});

describe('W3, W4: connections that say nothing', () => {
  it('1,000 of them, half a byte a second: each closed within 10 s, and a real peer gets in within 2 s', async () => {
    const crowd: Stranger[] = [];
    const bytes = handshake(made.infoHash);
    let joined = 0;
    const cost = await during(async () => {
      for (let i = 0; i < 1000; i++) {
        const each = stranger(`127.0.${1 + (i >> 8)}.${1 + (i & 127)}`);
        crowd.push(each);
        if (i % 50 === 49) await each.opened;
      }
      await Promise.all(crowd.map((each) => each.opened));
      const drip = setInterval(() => {
        const at = Math.floor((performance.now() - crowd[0]!.openedAtMs) / 1000);
        for (let i = 0; i < crowd.length; i += 2) crowd[i]!.raw(bytes.subarray(at, at + 1));
      }, 1000);
      await pause(1000);
      const from = performance.now();
      const real = stranger();
      await real.greet(made.infoHash);
      await real.unchoked();
      real.send(Id.Request, 0, 0, BLOCK);
      await real.until(() => real.payloadBytes === BLOCK, 5000);
      joined = performance.now() - from;
      await Promise.race([Promise.all(crowd.map((each) => each.closed)), pause(12_000)]);
      clearInterval(drip);
    });
    expect(joined).toBeLessThanOrEqual(2000);
    expect(crowd.filter((each) => each.isOpen).length).toBe(0);
    for (const each of crowd) expect(each.closedAtMs - each.openedAtMs).toBeLessThanOrEqual(10_100);
    expect(cost.rssMiB).toBeLessThanOrEqual(64);
    await lives();
  });

  it('5,000 opened one after the other and kept: memory and descriptors are bounded, a real peer gets in', async () => {
    let open = 0;
    const cost = await during(async () => {
      for (let batch = 0; batch < 100; batch++) {
        const opened = Array.from({ length: 50 }, (_, i) => stranger(`127.1.${batch}.${1 + i}`));
        await Promise.all(opened.map((each) => each.opened));
      }
      await pause(500);
      open = strangers.filter((each) => each.isOpen).length;
      const from = performance.now();
      const real = await greeted();
      await real.unchoked();
      expect(performance.now() - from).toBeLessThanOrEqual(2000);
    });
    expect(open).toBeLessThanOrEqual(520);
    expect(cost.rssMiB).toBeLessThanOrEqual(64);
    await lives();
  });
});

describe('W5, W6: floods of requests', () => {
  it('readers that stand still hold little, and others are served', async () => {
    const cost = await during(async () => {
      for (let i = 0; i < 20; i++) {
        const each = await greeted();
        each.socket.pause();
        each.send(Id.Interested);
        each.raw(many(3000, (n) => message(Id.Request, n % PIECES, (n % 16) * BLOCK, [BLOCK, 1, 17 * KIB][i % 3]!)));
      }
      // whoever takes nothing for 10 s loses its upload slot to the next of them; long before they are all closed (120 s)
      expect(await download('meanwhile')).toBeLessThan(30_000);
    });
    expect(cost.rssMiB).toBeLessThanOrEqual(32);
    expect(cost.p99Ms).toBeLessThanOrEqual(50);
    await lives();
  });

  it('while choked: one reject for each at most', async () => {
    const each = await greeted();
    const flood = many(4096, (n) => message(Id.Request, n % PIECES, 0, BLOCK));
    const cost = await during(async () => {
      for (let i = 1; i <= 25; i++) {
        each.raw(flood);
        await each.until(() => each.heard[Id.Reject]! + each.heard[Id.Piece]! >= i * 4096, 5000);
      }
      await pause(500);
    });
    const answers = each.heard[Id.Reject]! + each.heard[Id.Piece]!;
    expect(answers).toBe(25 * 4096);
    // allowed fast: 10 pieces of 16 blocks, twice
    expect(each.heard[Id.Piece]!).toBeLessThanOrEqual(320);
    expect(cost.rssMiB).toBeLessThanOrEqual(16);
    await lives();
  });
});

describe('W7, W15: cheap messages in numbers', () => {
  const at10000 = 10_000 / 50;
  /** Name, what is sent each 20 ms (10,000 messages a second), and before it. */
  const floods: readonly (readonly [string, (n: number) => Uint8Array, Uint8Array | null])[] = [
    ['have', (n) => message(Id.Have, n % PIECES), null],
    ['have and dont have', (n) => (n % 2 === 0 ? message(Id.Have, 0) : extended(2, u32(0))), null],
    ['interest', (n) => message(n % 2 === 0 ? Id.Interested : Id.NotInterested), null],
    ['choke', (n) => message(n % 2 === 0 ? Id.Choke : Id.Unchoke), null],
    [
      'cancels with a full queue',
      (n) => message(Id.Cancel, n % PIECES, 16384 * 15, 16383),
      Buffer.concat([message(Id.Interested), many(2000, (n) => message(Id.Request, n % PIECES, 0, BLOCK))]),
    ],
    ['keep-alives', () => Buffer.alloc(4), null],
    ['upload only', (n) => extended(3, Buffer.from([n & 1])), message(Id.Interested)],
    ['extension handshakes', (n) => extended(0, `d1:md11:ut_metadatai${n % 5}ee4:reqqi${n % 7}ee`), null],
    ['metadata requests', () => extended(1, 'd8:msg_typei0e5:piecei0ee'), extended(0, 'd1:md11:ut_metadatai3eee')],
    ['unknown', () => message(77, Buffer.alloc(50)), null],
  ];
  it.each(floods)('%s, 10,000 a second for 2 s: event loop p99 within 50 ms', async (_name, one, before) => {
    const each = await greeted();
    if (before !== null) {
      each.socket.pause();
      each.raw(before);
    }
    const cost = await during(async () => {
      const end = performance.now() + 2000;
      for (let n = 0; performance.now() < end && each.isOpen; n += at10000) {
        each.raw(many(at10000, (i) => one(n + i)));
        await pause(20);
      }
    });
    expect(cost.p99Ms).toBeLessThanOrEqual(50);
    expect(cost.rssMiB).toBeLessThanOrEqual(16);
    each.close();
    await lives();
  });

  it('as fast as the wire takes it: others are still served', async () => {
    for (const [i, [, one, before]] of floods.entries()) {
      const each = await greeted();
      if (before !== null) {
        each.socket.pause();
        each.raw(before);
      }
      const chunk = many(5000, one);
      const pouring = each.pour(() => chunk, 1500);
      expect(await download(`beside-${i}`)).toBeLessThan(10_000);
      await pouring;
      each.close();
    }
    await lives();
  }, 60_000);

  it('W15: extension handshake bombs take under 100 ms', async () => {
    const bombs = [
      'd1:m'.repeat(60_000),
      'l'.repeat(240_000),
      `d1:md${'1:ai1e'.repeat(40_000)}ee`,
      `d1:v240000:${'x'.repeat(240_000)}e`,
      `d1:md11:ut_metadatai0eee`,
      `d1:md11:ut_metadatai999e11:lt_donthavei-1eee`,
      `d1:v5000:${'v'.repeat(5000)}e`,
      'd4:reqqi0ee',
      'd4:reqqi100000000ee',
      `d13:metadata_sizei2147483647ee`,
      `d13:metadata_sizei-1ee`,
      `d1:pi-1e4:reqqi${'9'.repeat(1000)}ee`,
    ];
    for (const bomb of bombs) {
      const cost = await during(async () => {
        const each = await greeted();
        each.raw(extended(0, bomb));
        await pause(200);
        if (each.isOpen) {
          await each.unchoked();
          each.send(Id.Request, 0, 0, BLOCK);
          await each.until(() => each.payloadBytes > 0, 2000);
        }
        each.close();
      });
      expect(cost.maxMs).toBeLessThanOrEqual(100);
      expect(cost.rssMiB).toBeLessThanOrEqual(16);
    }
    await lives();
  });
});
