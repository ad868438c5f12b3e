/**
 * Bound to an interface by name: while it is down not one packet leaves by another, though another leads everywhere; when it
 * is back the transfer goes on.
 *
 *     client  vpn 10.51.0.2 --- world 10.51.0.1      the interface it is bound to
 *             lan 10.52.0.2 --- world 10.52.0.1      the default route, and a way to the seed too
 *
 * The seed is 10.53.0.1, which the world has on its loopback device, so that both ways lead there.
 */

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { type Arena, interop } from './harness/arena.ts';
import { SHOAL, type ShoalLine } from './harness/clients/shoal.ts';
import type { Program } from './harness/program.ts';
import { cable, Room, WireTally } from './harness/rooms.ts';
import { pause, until } from './harness/wait.ts';

const SEED = '10.53.0.1';
const PORT = 6881;
const BACK_MS = 10_000;

for (const transport of ['tcp', 'utp'] as const) {
  const body = async (arena: Arena): Promise<void> => {
    const folder = arena.makeFolder('rooms');
    const [client, world] = await Promise.all(['client', 'world'].map((name) => Room.make(name, folder)));
    for (const room of [client!, world!]) {
      arena.keep({ name: room.name, stop: () => room.end(), tail: () => room.tail() });
    }
    join(client!, world!);
    const [vpn, lan] = [new WireTally(client!, 'vpn'), new WireTally(client!, 'lan')];
    await Promise.all([vpn.ready(), lan.ready()]);
    const torrent = arena.torrent({ tracker: `http://${SEED}:6969/announce` });
    const script = fileURLToPath(new URL('./harness/proxy-world.mjs', import.meta.url));
    const asked = { addresses: [SEED, '10.53.1.1'], port: PORT, torrent: torrent.path, folder: torrent.payload.folder };
    let ready = false;
    world!.start(process.execPath, [script, JSON.stringify({ ...asked, transport: 'both' })], {
      onLine: (line) => {
        ready ||= line.includes('ready');
      },
    });
    await until('the seed is ready', () => ready, { timeoutMs: 60_000 });

    const lines: ShoalLine[] = [];
    const output = arena.makeFolder('leech');
    const peers = ['--peer', `${SEED}:${PORT}`, '--dht-bootstrap', `10.53.1.1:${PORT}`, '--transport', transport];
    const args = ['get', torrent.path, '-o', output, '--state', `${output}.state`, '--json', '--down', '1M', ...peers];
    const run = client!.start(process.execPath, [SHOAL, ...args, '--interface', 'vpn'], {
      onLine: (line) => lines.push(JSON.parse(line) as ShoalLine),
    });
    const done = (): number => lines.findLast(({ type }) => type === 'progress')?.bytesDone ?? 0;
    await moves(run, done, 60_000);

    client!.ip('addr', 'flush', 'dev', 'vpn');
    client!.ip('link', 'set', 'vpn', 'down');
    await pause(500);
    const stopped = done();
    await pause(8000);
    assert.ok(done() - stopped <= 1 << 20, 'it stands still');
    assert.deepEqual(await lan.read(), {}, 'nothing has left by the other');

    upAgain(client!, '10.51.0.2');
    const back = performance.now();
    await moves(run, done, BACK_MS);
    assert.ok(performance.now() - back <= BACK_MS);

    // a VPN that comes back with another address
    client!.ip('addr', 'flush', 'dev', 'vpn');
    await pause(2000);
    upAgain(client!, '10.51.0.3');
    await moves(run, done, BACK_MS);
    await run.stop('SIGINT');
    assert.deepEqual(await lan.read(), {}, 'nothing has left by the other');
    assert.ok(Object.keys(await vpn.read()).length > 0);

    // unbound, it would have left there
    client!.ip('link', 'set', 'vpn', 'down');
    const open = client!.start(process.execPath, [SHOAL, ...args.slice(0, -6), ...peers]);
    await until('the other interface is used', async () => Object.keys(await lan.read()).length > 0, {
      timeoutMs: 30_000,
      detail: () => open.tail(),
    });
  };
  interop(`bound to an interface that goes and comes, by ${transport}`, ['namespace'], body, { timeout: 180_000 });
}

function join(client: Room, world: Room): void {
  for (const [device, net] of [
    ['vpn', '10.51.0'],
    ['lan', '10.52.0'],
  ] as const) {
    cable({ room: client, device, address: `${net}.2/24` }, { room: world, device, address: `${net}.1/24` });
  }
  for (const ip of [SEED, '10.53.1.1']) world.ip('addr', 'add', `${ip}/32`, 'dev', 'lo');
  client.ip('route', 'add', 'default', 'via', '10.52.0.1', 'metric', '10');
  upAgain(client, '10.51.0.2');
}

/** As a VPN program does it: address, device, and routes that win. */
function upAgain(client: Room, ip: string): void {
  client.ip('addr', 'replace', `${ip}/24`, 'dev', 'vpn');
  client.ip('link', 'set', 'vpn', 'up');
  client.ip('route', 'replace', '10.53.0.0/16', 'via', '10.51.0.1', 'dev', 'vpn');
}

/** Waits until it has more than it had. */
async function moves(run: Program, done: () => number, timeoutMs: number): Promise<void> {
  const before = done();
  await until(
    'the transfer goes on',
    () => {
      if (!run.running) throw new Error('the client has ended');
      return done() > before;
    },
    { timeoutMs, detail: () => `${before} of ${done()} ${run.tail()}` },
  );
}
