/**
 * A process with one Session, driven by a test over the IPC channel: `{ id, op, args }` in, `{ id, value }` or
 * `{ id, error }` out. It measures itself (CPU, memory, delay of the event loop) and keeps the events it hears.
 */

import net from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Session } from '@shoal/engine';

let session = null;
const torrents = [];
/** [monotonic ms, index of the torrent or -1, what] */
const log = [];
const delay = monitorEventLoopDelay({ resolution: 5 });

const ops = {
  async open(options) {
    session = new Session({ dht: false, lsd: false, portMap: false, ...options });
    await session.ready();
    return session.addresses;
  },
  async add(source, options) {
    const bytes = source.base64 === undefined ? source : Buffer.from(source.base64, 'base64');
    return keep(await session.add(bytes, options));
  },
  /** Many at once. */
  async addAll(sources, options) {
    const indices = [];
    for (const source of sources) indices.push(await ops.add(source, options));
    return indices;
  },
  async restore() {
    return (await session.restore()).map(keep);
  },
  stats: (i) => ({ ...torrents[i].stats(), atMs: performance.now() }),
  sessionStats: () => session.stats(),
  addresses: () => session.addresses,
  peers: (i) => torrents[i].peers(),
  trackers: (i) => torrents[i].trackers(),
  files: (i) => torrents[i].files.map(({ path, length, bytesDone }) => ({ path, length, bytesDone })),
  pieces: (i) => [...torrents[i].pieces()],
  name: (i) => torrents[i].name,
  checked: (i) => torrents[i].checked(),
  done: (i) => torrents[i].done(),
  metadata: async (i) => (await torrents[i].metadata()).name,
  addPeer: (i, address) => torrents[i].addPeer(address),
  announce: (i) => torrents[i].announce(),
  pause: (i) => torrents[i].pause(),
  resume: (i) => torrents[i].resume(),
  recheck: (i) => torrents[i].recheck(),
  remove: (i, options) => torrents[i].remove(options),
  move: (i, folder) => torrents[i].move(folder),
  select: (i, files) => torrents[i].select(files),
  setLimits: (i, limits) => torrents[i].setLimits(limits),
  log: () => log,
  /** Figures since the last call. */
  usage(reset = true) {
    const cpu = process.cpuUsage();
    const figures = {
      atMs: performance.now(),
      cpuMs: (cpu.user + cpu.system) / 1000,
      rss: process.memoryUsage.rss(),
      maxRss: process.resourceUsage().maxRSS * 1024,
      delayP99Ms: delay.percentile(99) / 1e6,
      delayMaxMs: delay.max / 1e6,
      delayCount: delay.count,
    };
    if (reset) delay.reset();
    return figures;
  },
  /** Connects so many times, says the handshake of a leech that has nothing, and stays. Returns how many connected. */
  async crowd(address, infoHash, count) {
    const [host, port] = address.split(':');
    const hash = Buffer.from(infoHash, 'hex');
    let connected = 0;
    for (let i = 0; i < count; i++) {
      const id = Buffer.from(`-XX0000-${String(i).padStart(12, '0')}`);
      const hello = Buffer.concat([Buffer.from([19]), Buffer.from('BitTorrent protocol'), Buffer.alloc(8), hash, id]);
      const socket = net.connect(Number(port), host, () => socket.write(hello));
      socket.on('error', () => {}).on('data', () => {});
      await new Promise((done) => socket.once('connect', () => done(connected++)).once('error', done));
    }
    return connected;
  },
  async close() {
    await session?.close();
    session = null;
  },
};

function keep(torrent) {
  const index = torrents.length;
  torrents.push(torrent);
  void listen(torrent, index);
  return index;
}

async function listen(torrent, index) {
  for await (const event of torrent.events()) {
    if (event.type === 'piece') continue;
    log.push([performance.now(), index, event]);
    if (log.length > 50_000) log.splice(0, 10_000);
  }
}

process.on('message', async ({ id, op, args }) => {
  try {
    const value = await ops[op](...args);
    process.send({ id, value });
  } catch (error) {
    process.send({ id, error: { code: error.code, message: error.message } });
  }
});
process.once('SIGTERM', async () => {
  await ops.close();
  process.disconnect();
});
// a test that was killed leaves nothing behind
process.once('disconnect', () => {
  if (session !== null) process.exit(1);
});
delay.enable();
process.send({ ready: true });
