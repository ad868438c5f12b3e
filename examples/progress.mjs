// Progress with an async iterator: it yields now, then every interval, and ends when all is there.
import { Session } from 'shoal';
import { onThisMachine, startSwarm } from './swarm.mjs';

const swarm = await startSwarm();
const session = new Session({ ...onThisMachine, downloadLimit: 16 * 1024 * 1024 });
try {
  const torrent = await session.add(swarm.torrentPath, { folder: swarm.folder, peers: [swarm.peer] });
  for await (const { bytesDone, bytesTotal, downRate, peers } of torrent.progress({ intervalMs: 200 })) {
    const share = ((bytesDone / bytesTotal) * 100).toFixed(1).padStart(5);
    console.log(`${share}%  ${(downRate / 1024 / 1024).toFixed(1)} MiB/s  ${peers} peers`);
  }
  await torrent.done();
  console.log('done');
} finally {
  await session.close();
  await swarm[Symbol.asyncDispose]();
}
