// Stream a file's middle: what is read next is fetched before everything else, so reading can begin at once.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { Session } from 'shoal';
import { onThisMachine, startSwarm } from './swarm.mjs';

const swarm = await startSwarm();
const session = new Session({ ...onThisMachine, downloadLimit: 8 * 1024 * 1024 });
try {
  const torrent = await session.add(swarm.torrentPath, { folder: swarm.folder, peers: [swarm.peer] });
  const file = torrent.files.find(({ path }) => path.endsWith('high.bin'));
  const start = Math.floor(file.length / 2);
  const end = start + 1_000_000;

  const hash = createHash('sha256');
  for await (const chunk of file.stream({ start, end })) hash.update(chunk);
  const read = hash.digest('hex');

  const source = createHash('sha256');
  for await (const chunk of createReadStream(swarm.sourceFile, { start, end: end - 1 })) source.update(chunk);
  const share = ((torrent.stats().bytesDone / torrent.stats().bytesTotal) * 100).toFixed(0);
  console.log(`read bytes ${start} to ${end} while ${share}% of the torrent was there`);
  console.log(read === source.digest('hex') ? 'they equal the source' : 'they DIFFER from the source');
} finally {
  await session.close();
  await swarm[Symbol.asyncDispose]();
}
