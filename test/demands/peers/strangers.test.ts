/** W1-W4 of the demands on real sockets: what no peer says, and connections that say nothing. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pause, until } from '../world/kit.ts';
import { extended, handshake, Id, many, message, type Stranger, u32 } from './raw.ts';
import { BLOCK, KIB, MIB, PIECES, Siege } from './siege.ts';

let siege: Siege;

beforeEach(async () => {
  siege = await Siege.begin();
});
afterEach(() => siege.end());

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
    const cost = await siege.during(async () => {
      for (const afterTraffic of [false, true]) {
        for (const [name, bytes, ends] of breaches) {
          const each = await siege.greeted();
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
    await siege.lives();
  });

  it('handshakes of every wrong kind', async () => {
    const right = handshake(siege.made.infoHash);
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
    const cost = await siege.during(async () => {
      for (const bytes of wrong) {
        const each = siege.stranger();
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
      const waiting = undecided.map((bytes) => [siege.stranger(), bytes] as const);
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
      const each = siege.stranger();
      await each.opened;
      for (const byte of odd) {
        each.raw(Uint8Array.of(byte));
        await pause(2);
      }
      each.send(Id.HaveNone);
      await each.until(() => each.heard[Id.HaveAll]! > 0, 2000);
    });
    expect(cost.rssMiB).toBeLessThanOrEqual(16);
    await siege.lives();
  });

  it('W2: a length of 4 GiB and more bytes after it: dropped at once, not a MiB held', async () => {
    const cost = await siege.during(async () => {
      for (let i = 0; i < 20; i++) {
        const each = await siege.greeted();
        each.raw(Buffer.from([255, 255, 255, 255, 7]));
        const at = performance.now();
        await each.pour(() => Buffer.alloc(65536), 3000);
        expect(each.isOpen).toBe(false);
        expect(each.closedAtMs - at).toBeLessThan(500);
      }
      // the longest message there may be, never finished, from 16 at once
      const holders = await Promise.all(Array.from({ length: 16 }, () => siege.greeted()));
      for (const each of holders)
        each.raw(Buffer.concat([u32(MIB), Buffer.from([20, 0]), Buffer.alloc(MIB - 10, 'd')]));
      await pause(1000);
      for (const each of holders) each.close();
    });
    expect(cost.rssMiB).toBeLessThanOrEqual(48);
    await siege.lives();
  });
});

describe('W3, W4: connections that say nothing', () => {
  it('1,000 of them, half a byte a second: each closed within 10 s, and a real peer gets in within 2 s', async () => {
    const crowd: Stranger[] = [];
    const bytes = handshake(siege.made.infoHash);
    let joined = 0;
    const cost = await siege.during(async () => {
      for (let i = 0; i < 1000; i++) {
        const each = siege.stranger(`127.0.${1 + (i >> 8)}.${1 + (i & 127)}`);
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
      const real = siege.stranger();
      await real.greet(siege.made.infoHash);
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
    await siege.lives();
  });

  it('5,000 opened one after the other and kept: memory and descriptors are bounded, a real peer gets in', async () => {
    let open = 0;
    const cost = await siege.during(async () => {
      for (let batch = 0; batch < 100; batch++) {
        const opened = Array.from({ length: 50 }, (_, i) => siege.stranger(`127.1.${batch}.${1 + i}`));
        await Promise.all(opened.map((each) => each.opened));
      }
      await pause(500);
      open = siege.strangers.filter((each) => each.isOpen).length;
      const from = performance.now();
      const real = await siege.greeted();
      await real.unchoked();
      expect(performance.now() - from).toBeLessThanOrEqual(2000);
    });
    expect(open).toBeLessThanOrEqual(520);
    expect(cost.rssMiB).toBeLessThanOrEqual(64);
    await siege.lives();
  });
});
