/**
 * Through real proxies: danted (SOCKS4, SOCKS5 with datagrams), OpenSSH (SOCKS4a), microsocks (SOCKS5 with a password),
 * squid (HTTP CONNECT).
 * The client has a machine of its own whose wire is watched: whatever is not for the proxy has leaked. It knows no name
 * server that answers, so names are looked up at the proxy or not at all.
 */

import assert from 'node:assert/strict';
import { type Arena, interop, transferMs } from './harness/arena.ts';
import {
  type ClientRun,
  NAME_SERVER,
  PROXY,
  ProxyRooms,
  SECURE_PORT,
  SEED_PORT,
  sentBy,
  strays,
} from './harness/proxy-rooms.ts';
import { pause, until } from './harness/wait.ts';

const HTTP_TRACKER = 'http://tracker.test:6969/announce';
const HTTPS_TRACKER = `https://tracker.test:${SECURE_PORT}/announce`;
const HTTP_ADDRESS = 'http://10.60.2.1:6969/announce';
const UDP_TRACKER = 'udp://tracker.test:6969/announce';
const DHT_NODE = `node.test:${SEED_PORT}`;
const TIMEOUT = { timeout: 240_000 };

interface Case {
  readonly name: string;
  readonly needs: readonly ('danted' | 'microsocks' | 'squid' | 'ssh' | 'dropbear' | 'opentracker')[];
  readonly tracker: string | null;
  readonly transport: 'tcp' | 'utp' | 'both';
  readonly proxy: string;
  readonly args: readonly string[];
  /** The proxy's port, and whether datagrams are to go there. */
  readonly port: number;
  readonly udp: boolean;
  start(rooms: ProxyRooms): Promise<unknown>;
}

const SOCKS5 = { needs: ['danted'], proxy: `socks5://${PROXY}:1080`, port: 1080 } as const;
const danted = (rooms: ProxyRooms): Promise<unknown> => rooms.danted();
const CASES: readonly Case[] = [
  {
    ...SOCKS5,
    name: 'SOCKS5: a tracker by name, peers by TCP and uTP',
    needs: ['danted', 'opentracker'],
    tracker: HTTP_TRACKER,
    transport: 'both',
    args: ['--dht-bootstrap', DHT_NODE],
    udp: true,
    start: danted,
  },
  {
    ...SOCKS5,
    name: 'SOCKS5: uTP alone, peers by the DHT, whose first node has a name',
    tracker: null,
    transport: 'utp',
    args: ['--transport', 'utp', '--dht-bootstrap', DHT_NODE],
    udp: true,
    start: danted,
  },
  {
    ...SOCKS5,
    name: 'SOCKS5: a UDP tracker by name, anonymous and encrypted',
    needs: ['danted', 'opentracker'],
    tracker: UDP_TRACKER,
    transport: 'tcp',
    args: ['--no-dht', '--anonymous', '--encryption', 'require'],
    udp: true,
    start: danted,
  },
  {
    ...SOCKS5,
    // danted takes no names over SOCKS4
    name: 'SOCKS4: a tracker by address',
    needs: ['danted', 'opentracker'],
    proxy: `socks4://${PROXY}:1080`,
    tracker: HTTP_ADDRESS,
    transport: 'tcp',
    args: ['--dht-bootstrap', DHT_NODE],
    udp: false,
    start: danted,
  },
  {
    name: 'SOCKS4a: a tracker by name',
    needs: ['ssh', 'dropbear', 'opentracker'],
    proxy: `socks4://${PROXY}:1082`,
    port: 1082,
    tracker: HTTP_TRACKER,
    transport: 'both',
    args: ['--dht-bootstrap', DHT_NODE],
    udp: false,
    start: (rooms) => rooms.ssh(),
  },
  {
    name: 'SOCKS5 with a password and without datagrams',
    needs: ['microsocks', 'opentracker'],
    tracker: HTTP_TRACKER,
    transport: 'both',
    proxy: `socks5://fred:se%2Fcret@${PROXY}:1081`,
    args: ['--dht-bootstrap', DHT_NODE],
    port: 1081,
    udp: false,
    start: (rooms) => rooms.microsocks('fred', 'se/cret'),
  },
  {
    name: 'HTTP CONNECT',
    needs: ['squid', 'opentracker'],
    tracker: HTTP_TRACKER,
    transport: 'both',
    proxy: `http://${PROXY}:3128`,
    args: ['--dht-bootstrap', DHT_NODE],
    port: 3128,
    udp: false,
    start: (rooms) => rooms.squid(),
  },
];

const SECURE: readonly Pick<Case, 'name' | 'needs' | 'proxy' | 'port' | 'start'>[] = [
  { ...SOCKS5, name: 'SOCKS5', start: danted },
  {
    name: 'HTTP CONNECT',
    needs: ['squid'],
    proxy: `http://${PROXY}:3128`,
    port: 3128,
    start: (rooms) => rooms.squid(),
  },
];

for (const one of CASES) {
  const body = async (arena: Arena): Promise<void> => {
    const rooms = await ProxyRooms.make(arena);
    const torrent = arena.torrent(one.tracker === null ? {} : { tracker: one.tracker });
    await one.start(rooms);
    if (one.tracker !== null) await rooms.tracker(torrent);
    const folder = arena.makeFolder('leech');
    // the world itself knows no names
    await rooms.seed(arena.torrent({ tracker: HTTP_ADDRESS }), one.transport);
    const run = rooms.get(torrent.path, folder, ['--proxy', one.proxy, ...one.args]);
    assert.equal(await run.ended(transferMs(torrent.payload.bytes)), 0);
    await arena.same(torrent, folder);
    const sent = await rooms.tally.read();
    assert.deepEqual(strays(sent, { tcp: one.port, udp: one.udp }), []);
    assert.ok(sentBy(sent, 'tcp') > 0);
    assert.equal(sentBy(sent, 'udp') > 0, one.udp);
  };
  interop(`through a proxy: ${one.name}`, ['namespace', ...one.needs], body, TIMEOUT);
}

for (const one of SECURE) {
  interop(
    `an https tracker through a proxy, by name and by its certificate: ${one.name}`,
    ['namespace', 'opentracker', ...one.needs],
    async (arena) => {
      const rooms = await ProxyRooms.make(arena);
      const torrent = arena.torrent({ tracker: HTTPS_TRACKER });
      await one.start(rooms);
      await rooms.tracker(torrent);
      const front = await rooms.secureTracker();
      await rooms.seed(arena.torrent({ tracker: HTTP_ADDRESS }), 'tcp');
      const args = ['--proxy', one.proxy, '--no-dht'];
      // the same tracker by a name that its certificate does not have: it hears no more than that name
      const alias = arena.torrent({ tracker: HTTPS_TRACKER.replace('tracker.test', 'alias.test') });
      const wary = rooms.get(alias.path, arena.makeFolder('wary'), args);
      const asked = (): boolean => front.names.includes('alias.test');
      await until('it comes to the tracker', asked, { timeoutMs: 30_000, detail: () => wary.program!.tail() });
      await pause(500);
      await wary.program!.stop('SIGINT');
      assert.equal(front.requests.length, 0);
      const folder = arena.makeFolder('leech');
      const run = rooms.get(torrent.path, folder, args);
      assert.equal(await run.ended(transferMs(torrent.payload.bytes)), 0);
      await arena.same(torrent, folder);
      assert.ok(front.names.includes('tracker.test'));
      assert.ok(front.requests.includes('/announce'));
      // nor was any name asked for here
      assert.deepEqual(strays(await rooms.tally.read(), { tcp: one.port }), []);
    },
    TIMEOUT,
  );
}

interop(
  'a proxy that is not there: nothing is sent to anybody else',
  ['namespace'],
  async (arena) => {
    const rooms = await ProxyRooms.make(arena);
    const torrent = arena.torrent({ tracker: HTTP_TRACKER });
    const proxy = ['--proxy', `socks5://fred:secret@${PROXY}:1080`];
    const peers = ['--peer', '10.60.1.1:6881', '--peer', 'peer.test:6881', '--dht-bootstrap', DHT_NODE];
    const run = rooms.get(torrent.path, arena.makeFolder('leech'), [...proxy, ...peers]);
    await until('it tries', async () => sentBy(await rooms.tally.read(), 'tcp') > 3, { timeoutMs: 30_000 });
    await pause(10_000);
    assert.ok(run.program!.running);
    await run.program!.stop('SIGINT');
    assert.deepEqual(strays(await rooms.tally.read(), { tcp: 1080 }), []);
    noSecrets(run);
    // without it, the same is seen on the wire: names, peers, the DHT
    const open = rooms.get(torrent.path, arena.makeFolder('leech'), peers);
    await until(
      'what leaks is seen',
      async () => {
        const sent = Object.keys(await rooms.tally.read());
        return ['tcp 10.60.1.1:6881', `udp ${NAME_SERVER}:53`, 'udp 10.60.1.1:6881'].every((to) => sent.includes(to));
      },
      { timeoutMs: 30_000, detail: () => open.program!.tail() },
    );
  },
  TIMEOUT,
);

interop(
  'a proxy that goes and comes back: nothing is sent past it, and the transfer goes on',
  ['namespace', 'danted'],
  async (arena) => {
    const rooms = await ProxyRooms.make(arena);
    const torrent = arena.torrent();
    const first = await rooms.danted();
    await rooms.seed(torrent, 'both');
    const folder = arena.makeFolder('leech');
    const proxy = [
      '--proxy',
      `socks5://${PROXY}:1080`,
      '--dht-bootstrap',
      DHT_NODE,
      '--peer',
      `node.test:${SEED_PORT}`,
    ];
    const run = rooms.get(torrent.path, folder, [...proxy, '--down', '1M']);
    const done = (): number => run.last('progress')?.bytesDone ?? 0;
    await until('it has begun', () => done() > 0, { timeoutMs: 60_000 });
    await first.stop();
    await pause(3000);
    const before = done();
    await rooms.danted();
    await until('it goes on', () => done() > before, { timeoutMs: 30_000 });
    await run.program!.stop('SIGINT');
    assert.deepEqual(strays(await rooms.tally.read(), { tcp: 1080, udp: true }), []);
  },
  TIMEOUT,
);

function noSecrets(run: ClientRun): void {
  const said = JSON.stringify(run.lines) + run.program!.tail();
  assert.ok(!said.includes('secret'), said);
}
