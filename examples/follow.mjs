// Follow a publisher: a key stands for a torrent, and for the next one when it changes (BEP 46). What both share is not
// fetched twice. Three sessions make a DHT of their own here.
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTorrent, Session } from 'shoal';

const home = await mkdtemp(join(tmpdir(), 'shoal-example-'));
const node = new Session({ bind: ['127.0.0.1'], lsd: false });
await node.ready();
const bootstrap = [`127.0.0.1:${node.addresses[0].port}`];
const publisher = new Session({ bind: ['127.0.0.2'], lsd: false, dht: { bootstrap } });
const reader = new Session({ bind: ['127.0.0.3'], lsd: false, dht: { bootstrap } });

const seed = randomBytes(32); // the publisher's secret
const atlas = randomBytes(4_000_000);

async function publish(edition) {
  const folder = join(home, edition);
  await mkdir(join(folder, 'charts'), { recursive: true });
  await writeFile(join(folder, 'charts', 'atlas.bin'), atlas);
  await writeFile(join(folder, 'charts', 'tides.txt'), `Tides, ${edition} edition.\n`);
  const { bytes, meta } = await createTorrent(join(folder, 'charts'), { pieceLength: 65536 });
  await publisher.add(bytes, { folder });
  return await publisher.dht.putMutable({ ih: meta.infoHash }, { seed });
}

try {
  await Promise.all([publisher.dht.ready(), reader.dht.ready()]);
  const { publicKey } = await publish('first');
  const link = `magnet:?xs=urn:btpk:${publicKey}`;
  const peers = publisher.addresses.map(({ ip, port }) => `${ip}:${port}`);
  const follower = reader.follow(link, { folder: join(home, 'reader'), peers, everyMs: 1000 });
  for await (const torrent of follower) {
    await torrent.done();
    console.log(
      `version ${follower.seq}: ${torrent.stats().downloaded} of ${torrent.stats().bytesTotal} bytes fetched`,
    );
    if (follower.seq === 2) break; // which stops the follower
    await publish('second');
  }
} finally {
  await Promise.all([reader, publisher, node].map((session) => session.close()));
  await rm(home, { recursive: true, force: true });
}
