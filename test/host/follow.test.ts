/** Following a publisher (BEP 46) on the real machine: a small DHT, a seed of each version, and a follower. */

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import fs from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type BDict, decode, encode, RawBencode } from '../../packages/engine/dist/src/codec/index.js';
import {
  createTorrent,
  type Follower,
  formatPublisher,
  Session,
  type SessionOptions,
  type Torrent,
} from '../../packages/engine/dist/src/index.js';
import { tempFolder } from './support.ts';

const NODES = 6;
const FILE = 300_000;
const nodes: Session[] = [];
let router = '';
let nextIp = 0;

const options: SessionOptions = { lsd: false, pex: false, memory: 4 << 20, hashThreads: 1 };

beforeAll(async () => {
  for (let i = 0; i < NODES; i++) {
    const node = new Session({ ...options, bind: [`127.0.60.${i + 1}`], dht: { bootstrap: i === 0 ? [] : [router] } });
    nodes.push(node);
    await node.ready();
    if (i === 0) router = `127.0.60.1:${node.addresses[0]!.port}`;
    else expect(await node.dht.ready()).toBe(true);
  }
});
afterAll(() => Promise.all(nodes.map((node) => node.close())));

/** Another session at an address of its own; it only asks the DHT, so that nobody misses it when it is gone. */
async function session(more: SessionOptions = {}): Promise<Session> {
  const dht = { bootstrap: [router], readOnly: true };
  const made = new Session({ ...options, bind: [`127.0.61.${++nextIp}`], dht, ...more });
  onTestFinished(() => made.close());
  await made.ready();
  return made;
}

/** Somebody with a key, and files that change. */
class Press {
  readonly seed: Buffer = randomBytes(32);
  readonly folder: string = tempFolder();
  readonly files = new Map<string, Buffer>();
  readonly session: Session;
  publicKey = '';

  constructor(made: Session, count: number = 10) {
    this.session = made;
    for (let i = 0; i < count; i++) this.files.set(i % 2 === 0 ? `f${i}` : `deep/f${i}`, randomBytes(FILE));
  }

  /** Makes a torrent of the files as they are, seeds it and puts it. Gives its info-hash. */
  async publish(name: string, version: 'v1' | 'v2' | 'hybrid' = 'v1', seq?: number): Promise<string> {
    const folder = join(this.folder, randomBytes(4).toString('hex'));
    for (const [path, bytes] of this.files) {
      fs.mkdirSync(join(folder, name, path, '..'), { recursive: true });
      fs.writeFileSync(join(folder, name, path), bytes);
    }
    // of version 2 alone a piece a file, whose digests stand in the metadata
    const pieceLength = version === 'v2' ? 1 << 20 : 16384;
    const made = await createTorrent(join(folder, name), { version, pieceLength });
    const torrent = await this.session.add(made.bytes, { folder });
    await torrent.done();
    const ih = version !== 'v1' ? made.meta.infoHashV2! : made.meta.infoHash!;
    await this.put(ih, seq);
    return Buffer.from(ih).toString('hex');
  }

  async put(ih: Uint8Array, seq?: number): Promise<void> {
    const put = await this.session.dht.putMutable({ ih }, { seed: this.seed, ...(seq === undefined ? {} : { seq }) });
    this.publicKey = put.publicKey;
    expect(put.stored).toBeGreaterThanOrEqual(NODES - 1);
  }

  get link(): string {
    return formatPublisher({ publicKey: Buffer.from(this.publicKey, 'hex'), salt: new Uint8Array(0) });
  }

  /** Where to find the seed, so that tests need not wait for announces. */
  get peers(): readonly string[] {
    return this.session.addresses.map(({ ip, port }) => `${ip}:${port}`);
  }

  expectIn(folder: string): void {
    for (const [path, bytes] of this.files) expect(fs.readFileSync(join(folder, path)).equals(bytes), path).toBe(true);
  }
}

async function next(follower: AsyncIterator<Torrent>): Promise<Torrent> {
  const { value, done } = await follower.next();
  expect(done).toBe(false);
  return value as Torrent;
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 15_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error('it did not come');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('a link is what its publisher put last; nothing there, and what is no torrent, are errors', async () => {
  const press = new Press(await session(), 2);
  await press.publish('site');
  const hash = await press.publish('site two');
  const reader = await session();
  const folder = tempFolder();
  const torrent = await reader.add(press.link, { folder, peers: press.peers });
  expect(torrent.infoHash).toBe(hash);
  await torrent.done();
  press.expectIn(join(folder, 'site two'));

  const nobody = `magnet:?xs=urn:btpk:${'ab'.repeat(32)}`;
  await expect(reader.add(nobody, { folder, signal: AbortSignal.timeout(1500) })).rejects.toMatchObject({
    code: 'aborted',
  });
  const other = new Press(press.session, 0);
  await other.put(randomBytes(19));
  await expect(reader.add(other.link, { folder })).rejects.toMatchObject({
    code: 'bad-torrent',
    message: expect.stringContaining('stands for no torrent'),
  });
  await expect(reader.add('magnet:?xs=urn:btpk:12', { folder })).rejects.toMatchObject({ code: 'bad-magnet' });
  const deaf = await session({ dht: false });
  await expect(deaf.add(press.link, { folder })).rejects.toMatchObject({ code: 'bad-option' });
  expect(() => deaf.follow(press.publicKey, { folder })).toThrow('without the DHT');
}, 60_000);

test.each([
  ['v1', 'the same name', 'site'],
  ['v1', 'another name', 'site 2'],
  ['v2', 'another name, with files that moved', 'site 2'],
  ['hybrid', 'the same name', 'site'],
] as const)(
  'a follower fetches of a new version what is new: %s, under %s',
  async (format, _what, name) => {
    const press = new Press(await session());
    await press.publish('site', format);
    const reader = await session();
    const folder = tempFolder();
    const follower = reader.follow(press.publicKey, { folder, peers: press.peers, everyMs: 1000 });
    const versions = follower[Symbol.asyncIterator]();
    const first = await next(versions);
    await first.done();
    expect(first.stats().downloaded).toBeGreaterThanOrEqual(10 * FILE);
    expect(follower.seq).toBe(1);

    press.files.set('f4', randomBytes(FILE + 5000));
    press.files.set('deep/f7', randomBytes(FILE / 2));
    if (format === 'v2') {
      press.files.set('moved/there', press.files.get('f2')!);
      press.files.delete('f2');
    }
    await press.publish(name, format);
    const second = await next(versions);
    expect(follower.seq).toBe(2);
    await second.done();
    press.expectIn(join(folder, name));
    // the new file, half of another, and with v1 pieces that lie across their edges
    const { downloaded } = second.stats();
    expect(downloaded).toBeGreaterThanOrEqual(1.5 * FILE);
    expect(downloaded).toBeLessThan(1.5 * FILE + 5000 + 6 * 16384);
    expect(reader.torrents).toEqual([second]);
    expect(first.state).toBe('stopped');
    follower.stop();
    expect((await versions.next()).done).toBe(true);
    expect(reader.torrents).toEqual([second]);
  },
  60_000,
);

test('an older number, one that stands for nothing and a torrent put anew change nothing', async () => {
  const press = new Press(await session(), 2);
  const hash = await press.publish('site', 'v1', 7);
  const reader = await session();
  const follower = reader.follow(press.link, { folder: tempFolder(), peers: press.peers, everyMs: 1000 });
  const versions = follower[Symbol.asyncIterator]();
  const first = await next(versions);
  expect(first.infoHash).toBe(hash);
  await first.done();
  await press.put(Buffer.from(hash, 'hex'), 9);
  await until(() => follower.seq === 9);
  await press.put(randomBytes(5), 10);
  await until(() => follower.trouble !== null);
  expect(follower.trouble).toMatchObject({ code: 'bad-torrent' });
  expect([follower.seq, follower.torrent]).toEqual([9, first]);
  expect(first.state).toBe('seeding');

  press.files.set('f0', randomBytes(100));
  const later = await press.publish('site', 'v1', 11);
  const second = await next(versions);
  expect([follower.seq, second.infoHash]).toEqual([11, later]);
}, 60_000);

test('forged items, and genuine ones of another key, count for nothing', async () => {
  const press = new Press(await session(), 1);
  const hash = await press.publish('site');
  const { bytes, target } = (await press.session.dht.getMutable(press.publicKey))!;
  const k = Buffer.from(press.publicKey, 'hex');
  const other = randomBytes(32);
  const foreign = await press.session.dht.putMutable({ ih: randomBytes(20) }, { seed: other, seq: 50 });
  const genuine = (await press.session.dht.getMutable(foreign.publicKey))!;
  const real = (await press.session.dht.getMutable(press.publicKey))!;
  const lies = [
    { k, seq: 99, sig: randomBytes(64), v: new RawBencode(encode({ ih: randomBytes(20) })) },
    { k, seq: 99, sig: Buffer.from(real.signature!, 'hex'), v: new RawBencode(bytes) },
    {
      k: Buffer.from(foreign.publicKey, 'hex'),
      seq: 50,
      sig: Buffer.from(genuine.signature!, 'hex'),
      v: new RawBencode(genuine.bytes),
    },
  ];
  // nearer to the target than any honest node, so that it is always asked
  const id = Buffer.from(target, 'hex');
  let told = 0;
  const liars = lies.map((lie, i) => {
    const socket = createSocket('udp4');
    id[19]! ^= i + 1;
    const own = Buffer.from(id);
    socket.on('message', (message, from) => {
      const query = decode(message) as BDict;
      const method = query.text('q');
      if (method === null) return;
      const item = method === 'get' ? lie : {};
      if (method === 'get') told++;
      const r = { id: own, nodes: new Uint8Array(0), token: 'tokn', ...item };
      socket.send(encode({ t: query.bytes('t')!, y: 'r', r }), from.port, from.address);
    });
    onTestFinished(() => void socket.close());
    return socket;
  });
  const bootstrap = [router];
  for (const [i, socket] of liars.entries()) {
    await new Promise<void>((resolve) => socket.bind(0, `127.0.65.${i + 1}`, resolve));
    bootstrap.push(`127.0.65.${i + 1}:${socket.address().port}`);
  }
  const reader = await session({ dht: { bootstrap, readOnly: true } });
  for (const address of bootstrap.slice(1)) reader.dht.addNode(address);
  await until(() => reader.dht.nodes().filter(({ address }) => address.ip.startsWith('127.0.65.')).length === 3);
  const follower = reader.follow(press.link, { folder: tempFolder(), peers: press.peers, everyMs: 1000 });
  const torrent = await next(follower[Symbol.asyncIterator]());
  expect([torrent.infoHash, follower.seq]).toEqual([hash, 1]);
  const before = told;
  expect(before).toBeGreaterThanOrEqual(3);
  await until(() => told > before + 5);
  expect([follower.torrent, follower.seq]).toEqual([torrent, 1]);
}, 60_000);

test('a rollback across a restart is ignored, what was there is not fetched again, and an old version is what a new one builds on', async () => {
  const press = new Press(await session());
  await press.publish('site', 'v1', 5);
  const folder = tempFolder();
  const state = tempFolder();
  const before = await session({ state });
  const torrent = await before.add(press.link, { folder, peers: press.peers });
  await torrent.done();
  await before.close();

  // a network that never heard of it, or was made to forget
  const lonely = await session({ state, dht: { bootstrap: ['127.0.62.9:9'] } });
  const offline = await lonely.add(press.link, { folder, signal: AbortSignal.timeout(25_000) });
  await offline.done();
  expect(offline.stats()).toMatchObject({ downloaded: 0, state: 'seeding' });
  await lonely.close();

  press.files.set('f0', randomBytes(FILE));
  await press.publish('site v2', 'v1', 6);
  const after = await session({ state });
  const newer = await after.add(press.link, { folder, peers: press.peers });
  await newer.done();
  press.expectIn(join(folder, 'site v2'));
  expect(newer.stats().downloaded).toBeLessThan(FILE + 3 * 16384);
  await after.close();
  // nor does it know the nodes of then any more
  for (const name of fs.readdirSync(state)) if (name.startsWith('dht')) fs.rmSync(join(state, name));

  const island = new Session({ ...options, bind: ['127.0.62.1'], dht: { bootstrap: [] } });
  onTestFinished(() => island.close());
  await island.ready();
  const bootstrap = [`127.0.62.1:${island.addresses[0]!.port}`];
  const liar = await session({ dht: { bootstrap } });
  await liar.dht.putMutable({ ih: randomBytes(20) }, { seed: press.seed, seq: 5 });
  const rolled = await session({ state, dht: { bootstrap, readOnly: true } });
  expect((await rolled.dht.getMutable(press.publicKey))!.seq).toBe(5);
  const kept = await rolled.add(press.link, { folder });
  expect(kept.infoHash).toBe(newer.infoHash);
}, 90_000);

test('a follower takes up what the session has from an earlier run', async () => {
  const press = new Press(await session(), 4);
  await press.publish('site');
  const folder = tempFolder();
  const state = tempFolder();
  const before = await session({ state });
  const first = await next(before.follow(press.link, { folder, peers: press.peers })[Symbol.asyncIterator]());
  await first.done();
  await before.close();

  const after = await session({ state });
  const [restored] = await after.restore();
  press.files.set('f0', randomBytes(FILE));
  await press.publish('site');
  const follower = after.follow(press.link, { folder, peers: press.peers });
  const second = await next(follower[Symbol.asyncIterator]());
  await second.done();
  press.expectIn(join(folder, 'site'));
  expect(second.stats().downloaded).toBeLessThan(FILE + 3 * 16384);
  expect([restored!.state, after.torrents]).toEqual(['stopped', [second]]);
}, 60_000);

test('an item is put again by whoever got it, without the secret, and never a forged one', async () => {
  const press = new Press(await session(), 0);
  await press.put(randomBytes(20), 3);
  const reader = await session();
  const item = (await reader.dht.getMutable(press.publicKey))!;
  expect(await reader.dht.putAgain(item)).toMatchObject({ target: item.target, stored: NODES });
  const forged = { ...item, seq: 4 };
  await expect(reader.dht.putAgain(forged)).rejects.toMatchObject({ code: 'bad-option' });
  expect((await reader.dht.getMutable(press.publicKey))!.seq).toBe(3);
}, 60_000);

test('old versions can be kept: each has a folder of its own', async () => {
  const press = new Press(await session(), 4);
  await press.publish('site', 'hybrid');
  const reader = await session();
  const folder = tempFolder();
  const follower: Follower = reader.follow(press.link, { folder, peers: press.peers, everyMs: 1000, old: 'keep' });
  const versions = follower[Symbol.asyncIterator]();
  const first = await next(versions);
  await first.done();
  const old = new Map(press.files);
  press.files.set('f0', randomBytes(FILE));
  await press.publish('site', 'hybrid');
  const second = await next(versions);
  await second.done();
  expect([first.state, second.state]).toEqual(['seeding', 'seeding']);
  expect(second.stats().downloaded).toBeLessThan(FILE + 2 * 16384);
  const own = ({ infoHashV2 }: Torrent): string => join(folder, infoHashV2!.slice(0, 8), 'site');
  press.expectIn(own(second));
  for (const [path, bytes] of old) {
    expect(fs.readFileSync(join(own(first), path)).equals(bytes)).toBe(true);
  }
}, 60_000);
