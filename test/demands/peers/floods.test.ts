/** W5-W7, W15 and W19 of the demands on real sockets: floods. Delays of the event loop, memory, and whether others are served. */

import { createDiffieHellman } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pause } from '../world/kit.ts';
import { extended, Id, MSE_PRIME, many, message, u32 } from './raw.ts';
import { BLOCK, KIB, PIECES, Siege } from './siege.ts';

let siege: Siege;

beforeEach(async () => {
  siege = await Siege.begin();
});
afterEach(() => siege.end());

describe('W5, W6: floods of requests', () => {
  it('readers that stand still hold little, and others are served', async () => {
    const cost = await siege.during(async () => {
      for (let i = 0; i < 20; i++) {
        const each = await siege.greeted();
        each.socket.pause();
        each.send(Id.Interested);
        each.raw(many(3000, (n) => message(Id.Request, n % PIECES, (n % 16) * BLOCK, [BLOCK, 1, 17 * KIB][i % 3]!)));
      }
      // whoever takes nothing for 10 s loses its upload slot to the next of them; long before they are all closed (120 s)
      expect(await siege.download('meanwhile')).toBeLessThan(30_000);
    });
    expect(cost.rssMiB).toBeLessThanOrEqual(32);
    expect(cost.p99Ms).toBeLessThanOrEqual(50);
    await siege.lives();
  });

  it('while choked: one reject for each at most', async () => {
    const each = await siege.greeted();
    const flood = many(4096, (n) => message(Id.Request, n % PIECES, 0, BLOCK));
    const cost = await siege.during(async () => {
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
    await siege.lives();
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
    const each = await siege.greeted();
    if (before !== null) {
      each.socket.pause();
      each.raw(before);
    }
    const cost = await siege.during(async () => {
      const end = performance.now() + 2000;
      for (let n = 0; performance.now() < end && each.isOpen; n += at10000) {
        each.raw(many(at10000, (i) => one(n + i)));
        await pause(20);
      }
    });
    expect(cost.p99Ms).toBeLessThanOrEqual(50);
    expect(cost.rssMiB).toBeLessThanOrEqual(16);
    each.close();
    await siege.lives();
  });

  it('as fast as the wire takes it: others are still served', async () => {
    for (const [i, [, one, before]] of floods.entries()) {
      const each = await siege.greeted();
      if (before !== null) {
        each.socket.pause();
        each.raw(before);
      }
      const chunk = many(5000, one);
      const pouring = each.pour(() => chunk, 1500);
      expect(await siege.download(`beside-${i}`)).toBeLessThan(10_000);
      await pouring;
      each.close();
    }
    await siege.lives();
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
      const cost = await siege.during(async () => {
        const each = await siege.greeted();
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
    await siege.lives();
  });
});

describe('W19: key exchanges', () => {
  it('256 a second, and as many as will: event loop p99 within 100 ms, and friends get in, plain and encrypted', async () => {
    await siege.download('warm-encrypted', { encryption: 'require' });
    const key = createDiffieHellman(MSE_PRIME, 2).generateKeys();
    for (const perTurn of [64, 1000]) {
      let begun = 0;
      const took: number[] = [];
      const cost = await siege.during(async () => {
        const end = performance.now() + 4000;
        const friends = (async () => {
          await pause(500);
          for (const encryption of ['off', 'require']) {
            took.push(await siege.download(`${encryption}-${perTurn}`, { encryption }));
          }
        })();
        while (performance.now() < end) {
          const from = performance.now();
          const turn = Array.from({ length: perTurn }, (_, i) => siege.stranger(`127.0.3.${1 + (i % 250)}`));
          await Promise.all(turn.map(({ opened }) => opened));
          for (const one of turn) {
            one.raw(key);
            begun++;
          }
          await pause(250 - (performance.now() - from));
          // they hang up as others come, so that there is room
          for (const one of siege.strangers.splice(0)) one.close();
        }
        await friends;
      });
      console.log(
        `${begun} handshakes in 4 s: event loop p99 ${cost.p99Ms.toFixed(0)} ms, friends ${took.map(Math.round)} ms`,
      );
      expect(begun).toBeGreaterThanOrEqual(perTurn === 64 ? 900 : 1200);
      expect(cost.p99Ms).toBeLessThanOrEqual(100);
      expect(cost.rssMiB).toBeLessThanOrEqual(64);
      expect(Math.max(...took)).toBeLessThanOrEqual(20_000);
    }
    await siege.lives();
  });
});
