/** Magnet links of every form (BEP 9, 52, 53), from the text to the files, with a session that seeds on this machine. */

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import {
  createTorrent,
  formatMagnet,
  type Metainfo,
  Session,
  type Torrent,
} from '../../packages/engine/dist/src/index.js';
import { tempFolder } from './support.ts';

const NAMES = ['a', 'b', 'c', 'd'] as const;
type Version = 'v1' | 'v2' | 'hybrid';
const torrents = new Map<Version, { readonly meta: Metainfo; readonly bytes: Uint8Array; readonly folder: string }>();

beforeAll(async () => {
  for (const version of ['v1', 'v2', 'hybrid'] as const) {
    const folder = tempFolder();
    fs.mkdirSync(join(folder, version));
    for (const name of NAMES) fs.writeFileSync(join(folder, version, name), randomBytes(60_000));
    // of version 2 alone a piece a file, whose digests stand in the metadata
    torrents.set(version, { ...(await createTorrent(join(folder, version), { version, pieceLength: 65536 })), folder });
  }
});

async function session(): Promise<Session> {
  const made = new Session({
    bind: ['127.0.0.1'],
    dht: false,
    lsd: false,
    pex: false,
    memory: 2 << 20,
    hashThreads: 1,
  });
  onTestFinished(() => made.close());
  await made.ready();
  return made;
}

/** Seeds one of the torrents. */
async function seeding(version: Version): Promise<{ made: Session; torrent: Torrent }> {
  const { bytes, folder } = torrents.get(version)!;
  const made = await session();
  const torrent = await made.add(bytes, { folder });
  await torrent.done();
  return { made, torrent };
}

const addressOf = (made: Session): string => `127.0.0.1:${made.addresses[0]!.port}`;
const seed = async (version: Version): Promise<string> => addressOf((await seeding(version)).made);

function base32(bytes: Uint8Array): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits.replace(/.{5}/g, (five) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[Number.parseInt(five, 2)]!);
}

const hex = (bytes: Uint8Array | null): string => Buffer.from(bytes!).toString('hex');

test.each<[string, Version, (meta: Metainfo) => string]>([
  ['hex', 'v1', ({ infoHash }) => `xt=urn:btih:${hex(infoHash)}`],
  ['hex in capitals', 'v1', ({ infoHash }) => `XT=URN:BTIH:${hex(infoHash).toUpperCase()}`],
  ['base32', 'v1', ({ infoHash }) => `xt=urn:btih:${base32(infoHash!)}`],
  ['base32 in small letters', 'v1', ({ infoHash }) => `xt=urn:btih:${base32(infoHash!).toLowerCase()}`],
  ['a v1 hash of a hybrid', 'hybrid', ({ infoHash }) => `xt=urn:btih:${hex(infoHash)}`],
  ['a multihash of a hybrid', 'hybrid', ({ infoHashV2 }) => `xt=urn:btmh:1220${hex(infoHashV2)}`],
  ['both hashes', 'hybrid', (meta) => formatMagnet({ ...meta, name: null, webSeeds: [], trackers: [] }).slice(8)],
  ['a multihash of version 2 alone', 'v2', ({ infoHashV2 }) => `xt=urn:btmh:1220${hex(infoHashV2)}`],
])('%s, with x.pe and dn', async (_form, version, query) => {
  const { meta, folder } = torrents.get(version)!;
  const peer = await seed(version);
  const leech = await session();
  const to = tempFolder();
  const torrent = await leech.add(`magnet:?${query(meta)}&x.pe=${peer}&dn=Not%20its%20name`, { folder: to });
  expect([torrent.name, torrent.state]).toEqual(['Not its name', 'metadata']);
  expect((await torrent.metadata()).name).toBe(version);
  expect(torrent.name).toBe(version);
  await torrent.done();
  expect(torrent.stats().sources).toMatchObject({ magnet: 1, tracker: 0, dht: 0, pex: 0, lsd: 0 });
  expect([torrent.infoHash, torrent.infoHashV2]).toEqual([
    meta.infoHash === null ? null : hex(meta.infoHash),
    meta.infoHashV2 === null ? null : hex(meta.infoHashV2),
  ]);
  for (const name of NAMES) {
    expect(fs.readFileSync(join(to, version, name)).equals(fs.readFileSync(join(folder, version, name)))).toBe(true);
  }
});

test.each([
  ['so', '&so=1,3', undefined, ['b', 'd']],
  ['so past the end', '&so=2-99', undefined, ['c', 'd']],
  ['select in place of so', '&so=1', [0], ['a']],
] as const)('%s: only those files', async (_what, so, select, wanted) => {
  const { meta } = torrents.get('v1')!;
  const peer = await seed('v1');
  const leech = await session();
  const to = tempFolder();
  const link = `magnet:?xt=urn:btih:${hex(meta.infoHash)}&x.pe=${peer}${so}`;
  const torrent = await leech.add(link, { folder: to, ...(select === undefined ? {} : { select }) });
  await torrent.done();
  expect(fs.readdirSync(join(to, 'v1'))).toEqual(wanted);
  expect(torrent.files.filter(({ priority }) => priority > 0).map(({ name }) => name)).toEqual(wanted);
});

test.each(['v1', 'v2'] as const)('two hashes of different torrents end in an error, found by %s', async (found) => {
  const { meta: v1 } = torrents.get('v1')!;
  const { meta: v2 } = torrents.get('v2')!;
  const leech = await session();
  const link = `magnet:?xt=urn:btih:${hex(v1.infoHash)}&xt=urn:btmh:1220${hex(v2.infoHashV2)}&dn=odd`;
  const torrent = await leech.add(link, { folder: tempFolder() });
  // who has it comes by the hash it knows
  (await seeding(found)).torrent.addPeer(addressOf(leech));
  const wrong = { code: 'bad-torrent', message: 'odd: its two info-hashes are of different torrents' };
  await expect(torrent.metadata()).rejects.toMatchObject(wrong);
  await expect(torrent.checked()).rejects.toMatchObject(wrong);
  await expect(torrent.done()).rejects.toMatchObject(wrong);
  expect(torrent.stats()).toMatchObject({ state: 'error', error: { code: 'EBADTORRENT' } });
  await torrent.remove();
  expect(leech.torrents).toEqual([]);
});
