// Seed a folder: make a torrent of it, add it where the files are, and let someone fetch it.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTorrent, Session } from 'shoal';
import { onThisMachine } from './swarm.mjs';

const home = await mkdtemp(join(tmpdir(), 'shoal-example-'));
const photos = join(home, 'photos');
await mkdir(photos);
await writeFile(join(photos, 'sea.jpg'), Buffer.alloc(300_000, 'sea'));
await writeFile(join(photos, 'sand.jpg'), Buffer.alloc(200_000, 'sand'));

const { bytes, meta } = await createTorrent(photos);
console.log(`made ${meta.name}: ${meta.pieceCount} pieces, info-hash ${Buffer.from(meta.infoHash).toString('hex')}`);

// A seed is a torrent whose files are there already: `folder` is the one that holds them.
const seed = new Session(onThisMachine);
const friend = new Session(onThisMachine);
try {
  const seeding = await seed.add(bytes, { folder: home });
  await seeding.done();
  const { ip, port } = seed.addresses[0];
  console.log(`seeding on ${ip}:${port}`);

  const theirs = await friend.add(bytes, { folder: join(home, 'friend'), peers: [`${ip}:${port}`] });
  await theirs.done();
  console.log(`a friend fetched ${theirs.stats().downloaded} bytes`);
} finally {
  await friend.close();
  await seed.close();
  await rm(home, { recursive: true, force: true });
}
