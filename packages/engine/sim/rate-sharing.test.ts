/** Who gets what of a rate limit: peers over TCP and uTP, near and far, in whatever order they came. */

import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { SIM_FOLDER, SimSession } from './sim-session.ts';
import { World } from './world.ts';

type Transport = 'tcp' | 'utp';

const LIMIT = 500 * 1024;
const SECONDS = 20;

/** What each of them, far from us, moves in 20 s with one session that is limited: as seeds or as leeches of it. */
function shares(transports: readonly Transport[], seeds: boolean): number[] {
  const world = new World({ seed: 5 });
  const torrent = world.makeTorrent({ pieces: 4000, pieceLength: 4 * BLOCK_BYTES });
  const make = (transport: Transport | 'both', hub: SimSession | null, installed: boolean, latencyMs: number) => {
    const node = world.addNode({ latencyMs });
    if (installed) node.disk.install(torrent, SIM_FOLDER);
    const peers = hub === null ? [] : [{ ip: hub.node.host.ip, port: 6881 }];
    const limits = hub === null ? { uploadLimit: LIMIT, downloadLimit: LIMIT } : {};
    const session = new SimSession(node, torrent, { transport, peers, trackers: false, ...limits });
    world.run(400);
    return session;
  };
  const hub = make('both', null, !seeds, 10);
  const others = transports.map((transport, i) => make(transport, hub, seeds, 15 + 30 * i));
  world.run(12_000);
  const moved = (): number[] => others.map(({ entry }) => (seeds ? entry!.swarm.up.total : entry!.swarm.down.total));
  const before = moved();
  world.run(SECONDS * 1000);
  return moved().map((bytes, i) => (bytes - before[i]!) / (LIMIT * SECONDS));
}

describe.each([
  ['an upload limit', false],
  ['a download limit', true],
] as const)('%s is shared alike', (_name, seeds) => {
  test.each([
    ['by three over TCP and one over uTP that came last', ['tcp', 'tcp', 'tcp', 'utp']],
    ['by two over uTP and two over TCP that came later', ['utp', 'utp', 'tcp', 'tcp']],
  ] as const)('%s', (_peers, transports) => {
    const got = shares(transports, seeds);
    for (const share of got) expect(Math.abs(share * got.length - 1), `${got}`).toBeLessThan(0.1);
    expect(Math.abs(got.reduce((sum, share) => sum + share, 0) - 1)).toBeLessThan(0.05);
  });
});
