/** Items in the DHT (BEP 44): put by libtorrent and got by Shoal, the other way round, and Shoal as the one that keeps them. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import { addressOf } from './harness/clients/client.ts';
import type { Shoal, ShoalLine } from './harness/clients/shoal.ts';
import type { ClosedDht } from './harness/closed-dht.ts';
import { ItemKey, type KrpcProbe } from './harness/krpc-probe.ts';
import { type Bencodable, encode } from './harness/torrent.ts';
import { until } from './harness/wait.ts';

const TEXT = 'a value, with ünïcödé 🐟';

describe('shoal and libtorrent', () => {
  interop('an immutable item, both ways', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const put = await dht.put(2, Buffer.from(TEXT));
    assert.ok(put.stored >= 8, `${put.stored} nodes keep it`);
    const got = await item(arena, dht, ['get', put.target]);
    assert.deepEqual(bencodeOf(got), encode(TEXT));
    assert.equal(got['target'], put.target);

    const back = `${TEXT}, back`;
    const said = await item(arena, dht, ['put', back]);
    assert.ok(Number(said['stored']) >= 8, `${said['stored']} nodes keep it`);
    assert.equal((await dht.get(9, String(said['target'])))?.toString(), back);
  });

  interop('an immutable item of 1,000 bytes', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    // with its length before it
    const value = randomBytes(996).toString('hex').slice(0, 996);
    assert.equal(encode(value).length, 1000);
    const said = await item(arena, dht, ['put', value]);
    assert.equal((await dht.get(4, String(said['target'])))?.toString(), value);
    const { target } = await dht.put(5, Buffer.from(value.toUpperCase()));
    assert.deepEqual(bencodeOf(await item(arena, dht, ['get', target])), encode(value.toUpperCase()));
    const more = await command(arena, dht, ['put', `${value}1`]);
    assert.notEqual(more.exitCode, 0);
  });

  for (const salt of ['', 'sält']) {
    const salted = salt === '' ? '' : ', salted';
    interop(`a mutable item put by libtorrent and put again${salted}`, ['libtorrent'], async (arena) => {
      const dht = await arena.closedDht();
      const key = new ItemKey();
      const options = salt === '' ? [] : ['--salt', salt];
      for (const seq of [1, 2]) {
        const put = await dht.putMutable(seq, key, Buffer.from(`${TEXT} ${seq}`), salt);
        assert.equal(put.seq, seq);
        const got = await item(arena, dht, ['get', key.publicKey, ...options]);
        assert.equal(got['seq'], seq);
        assert.equal(got['publicKey'], key.publicKey);
        assert.deepEqual(bencodeOf(got), encode(`${TEXT} ${seq}`));
      }
      // under another salt there is nothing
      assert.notEqual((await command(arena, dht, ['get', key.publicKey, '--salt', 'other'])).exitCode, 0);
    });

    interop(`a mutable item put by shoal and put again${salted}`, ['libtorrent'], async (arena) => {
      const dht = await arena.closedDht();
      const key = new ItemKey();
      const options = ['--key', keyFile(arena, key), ...(salt === '' ? [] : ['--salt', salt])];
      const first = await item(arena, dht, ['put', TEXT, ...options]);
      assert.equal(first['publicKey'], key.publicKey);
      const firstSeq = Number(first['seq']);
      assert.deepEqual(await dht.getMutable(6, key.publicKey, salt), { seq: firstSeq, value: Buffer.from(TEXT) });
      const second = await item(arena, dht, ['put', `${TEXT} 2`, ...options]);
      assert.equal(second['seq'], firstSeq + 1);
      const found = await dht.getMutable(11, key.publicKey, salt);
      assert.deepEqual(found, { seq: firstSeq + 1, value: Buffer.from(`${TEXT} 2`) });

      // by turns: each goes on from what the other put
      const third = await dht.putMutable(3, key, Buffer.from('third'), salt);
      assert.equal(third.seq, firstSeq + 2);
      const fourth = await item(arena, dht, ['put', 'fourth', ...options]);
      assert.equal(fourth['seq'], firstSeq + 3);
      assert.deepEqual((await dht.getMutable(0, key.publicKey, salt)).value, Buffer.from('fourth'));
    });
  }

  interop('cas and an old seq are refused', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const key = new ItemKey();
    const options = ['--key', keyFile(arena, key)];
    await item(arena, dht, ['put', 'five', ...options, '--seq', '5']);
    assert.notEqual((await command(arena, dht, ['put', 'six', ...options, '--seq', '6', '--cas', '4'])).exitCode, 0);
    assert.deepEqual((await dht.getMutable(1, key.publicKey)).value, Buffer.from('five'));
    assert.notEqual((await command(arena, dht, ['put', 'four', ...options, '--seq', '4'])).exitCode, 0);
    assert.deepEqual((await dht.getMutable(1, key.publicKey)).value, Buffer.from('five'));
    await item(arena, dht, ['put', 'six', ...options, '--seq', '6', '--cas', '5']);
    assert.deepEqual(await dht.getMutable(1, key.publicKey), { seq: 6, value: Buffer.from('six') });
  });
});

describe('shoal keeps items', () => {
  interop('for libtorrent', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const shoal = await node(arena, dht);
    const probe = await arena.probe();
    // eight of thirteen keep an item: of 24 shoal is among those of some
    let kept = 0;
    for (let i = 0; i < 24; i++) {
      const value = Buffer.from(`value ${i}`);
      const { target } = await dht.put(i % 12, value);
      const reply = await probe.ask(addressOf(shoal), 'get', { target: Buffer.from(target, 'hex') });
      assert.ok(reply?.r, 'it answers');
      const v = reply.r['v'];
      if (v === undefined) continue;
      assert.deepEqual(v, value);
      kept++;
    }
    assert.ok(kept >= 6, `it keeps ${kept} of 24`);
  });

  interop('and gives 1,000 bytes to nodes that it knows', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const shoal = await node(arena, dht);
    const at = addressOf(shoal);
    const keeper = await arena.probe();
    const v = 'x'.repeat(996);
    const target = createHash('sha1').update(encode(v)).digest();
    const token = (await keeper.ask(at, 'get', { target }))!.r!['token'] as Buffer;
    assert.ok((await keeper.ask(at, 'put', { v, token }))?.r);
    const probe = await arena.probe();
    // shoal asks who is new, and takes who answers into its table
    probe.respond = (query) => (query === 'ping' ? {} : null);
    const first = await probe.ask(at, 'get', { target });
    assert.equal(first!.r!['v'], undefined, 'that would be 11 times the query');
    const value = async (): Promise<unknown> => (await probe.ask(at, 'get', { target }))?.r?.['v'];
    assert.deepEqual(await until('shoal gives all of it', value, { timeoutMs: 20_000, everyMs: 500 }), Buffer.from(v));
  });

  interop('by the rules of BEP 44', ['libtorrent'], async (arena) => {
    const dht = await arena.closedDht();
    const shoal = await node(arena, dht);
    const probe = await arena.probe();
    const at = addressOf(shoal);
    const key = new ItemKey();
    const target = randomBytes(20);
    const token = async (by: KrpcProbe, of: Uint8Array = target): Promise<Uint8Array> =>
      (await by.ask(at, 'get', { target: of }))!.r!['token'] as Buffer;
    const put = async (args: Readonly<Record<string, Bencodable>>): Promise<number> => {
      const reply = await probe.ask(at, 'put', { token: await token(probe), ...args });
      assert.ok(reply !== null, 'it answers');
      return reply.r === null ? reply.error![0] : 0;
    };
    // errors of BEP 44; 0: it was taken
    assert.equal(await put({ v: 'an immutable value' }), 0);
    assert.equal(await put({ v: 'x'.repeat(996) }), 0);
    assert.equal(await put({ v: 'x'.repeat(997) }), 205);
    assert.equal(await put(key.item('one', 1)), 0);
    assert.equal(await put({ ...key.item('two', 2), sig: randomBytes(64) }), 206);
    assert.equal(await put({ ...key.item('two', 2), v: 'other' }), 206);
    assert.equal(await put(key.item('salted', 1, 's'.repeat(64))), 0);
    assert.equal(await put(key.item('salted', 1, 's'.repeat(65))), 207);
    assert.equal(await put({ ...key.item('two', 2), cas: 7 }), 301);
    assert.equal(await put({ ...key.item('two', 2), cas: 1 }), 0);
    assert.equal(await put(key.item('old', 1)), 302);
    assert.equal(await put({ ...key.item('two', 2), token: 'forged' }), 203);
    // a token is good for the address that it was given to, and no other
    const other = await arena.probe();
    assert.equal(await put({ ...key.item('three', 3), token: await token(other) }), 203);
    const kept = createHash('sha1').update(Buffer.from(key.publicKey, 'hex')).digest();
    const reply = await probe.ask(at, 'get', { target: kept });
    assert.deepEqual(reply!.r!['v'], Buffer.from('two'));
    assert.equal(reply!.r!['seq'], 2);
    // who has it already is told the seq alone
    const known = await probe.ask(at, 'get', { target: kept, seq: 2 });
    assert.equal(known!.r!['v'], undefined);
    assert.equal(known!.r!['seq'], 2);
  });
});

interface Ended {
  readonly exitCode: number | null;
  readonly said: ShoalLine | undefined;
  readonly tail: string;
}

/** `shoal dht …` in the closed DHT, to its end. */
async function command(arena: Arena, dht: ClosedDht, args: readonly string[]): Promise<Ended> {
  const { ip } = await arena.place('dht');
  const bootstrap = dht.entry.flatMap((entry) => ['--bootstrap', entry]);
  const run = await arena.run(['dht', ...args, ...bootstrap, '--bind', ip]);
  return { exitCode: run.program.exitCode, said: run.last('item'), tail: run.tail() };
}

async function item(arena: Arena, dht: ClosedDht, args: readonly string[]): Promise<ShoalLine> {
  const { exitCode, said, tail } = await command(arena, dht, args);
  assert.equal(exitCode, 0, tail);
  return said!;
}

function bencodeOf(said: ShoalLine): Buffer {
  return Buffer.from(String(said['bencode']), 'hex');
}

function keyFile(arena: Arena, key: ItemKey): string {
  const path = join(arena.makeFolder('key'), 'key');
  writeFileSync(path, `${key.seed}\n`, { mode: 0o600 });
  return path;
}

/** A `shoal seed` that all nodes of the DHT know. */
async function node(arena: Arena, dht: ClosedDht): Promise<Shoal> {
  const shoal = await arena.shoal({ command: 'seed', finding: { dht: dht.entry } });
  await arena.seed(shoal, arena.torrent());
  await dht.meet(addressOf(shoal));
  await until('all nodes know shoal', async () => (await dht.sizes()).every((size) => size >= 12), {
    timeoutMs: 60_000,
  });
  return shoal;
}
