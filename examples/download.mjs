// The smallest download: add a torrent, wait until all is verified and written.
import { Session } from 'shoal';
import { onThisMachine, startSwarm } from './swarm.mjs';

const swarm = await startSwarm();
const session = new Session(onThisMachine);
try {
  const torrent = await session.add(swarm.torrentPath, { folder: swarm.folder, peers: [swarm.peer] });
  await torrent.done();
  console.log(`${torrent.name}: ${torrent.stats().bytesDone} bytes, all verified`);
} finally {
  await session.close();
  await swarm[Symbol.asyncDispose]();
}
