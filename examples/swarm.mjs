// What the other examples need around them: a folder with two files, a torrent of it, and a seed on this machine.
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTorrent, Session } from 'shoal';

/** For a Session that keeps to this machine; without it, it listens to the world, and asks the DHT and the local network for peers. */
export const onThisMachine = { bind: ['127.0.0.1'], dht: false, lsd: false };

/** Dispose of it with `await using`, which also removes the folder. */
export async function startSwarm({ megabytes = 16 } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-example-'));
  const source = join(folder, 'source', 'tides');
  await mkdir(source, { recursive: true });
  await writeFile(join(source, 'high.bin'), randomBytes(megabytes * 1024 * 1024));
  await writeFile(join(source, 'low.txt'), 'Low water at six.\n');
  const { bytes } = await createTorrent(source, { pieceLength: 256 * 1024 });
  const torrentPath = join(folder, 'tides.torrent');
  await writeFile(torrentPath, bytes);

  const session = new Session(onThisMachine);
  await session.ready();
  const torrent = await session.add(bytes, { folder: join(folder, 'source') });
  await torrent.done();
  const { ip, port } = session.addresses[0];
  return {
    torrentPath,
    peer: `${ip}:${port}`,
    sourceFile: join(source, 'high.bin'),
    folder: join(folder, 'download'),
    async [Symbol.asyncDispose]() {
      await session.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
