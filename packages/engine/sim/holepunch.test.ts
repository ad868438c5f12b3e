/**
 * Two sessions behind NATs, brought together by a third (BEP 55), over the virtual network's packets. They are connected to
 * it by uTP, from which it sees the ports that their NATs gave them.
 */

import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { CandidateSource } from '../src/swarm/peer-book.ts';
import type { NatKind } from './nat.ts';
import { SIM_FOLDER, SimSession } from './sim-session.ts';
import { World } from './world.ts';

function meet(natA: NatKind, natB: NatKind, transport: 'utp' | 'tcp'): { together: boolean; connections: number } {
  const world = new World({ seed: 7, poison: true });
  const torrent = world.makeTorrent({ pieces: 400, pieceLength: 4 * BLOCK_BYTES });
  const make = (
    nat: NatKind,
    transport: 'utp' | 'tcp' | 'both',
    peers: readonly SimSession[],
    seeds: boolean,
  ): SimSession => {
    const node = world.addNode({ upBps: 300_000, latencyMs: 20, nat });
    if (seeds) node.disk.install(torrent, SIM_FOLDER);
    const known = peers.map((session) => ({ ip: session.node.host.ip, port: 6881 }));
    const session = new SimSession(node, torrent, { pex: true, transport, peers: known });
    world.run(200);
    return session;
  };
  const relay = make('none', 'both', [], false);
  const a = make(natA, transport, [relay], true);
  const b = make(natB, transport, [relay], false);
  const direct = (): number => b.entry?.swarm.peers.filter(({ link }) => link.remote.ip === a.node.host.ip).length ?? 0;
  // told of each other after 3 s, unanswered for 1.5 s, and a second until that is seen
  const together = world.runUntil(() => direct() > 0, 15_000);
  world.run(5000);
  return { together, connections: direct() };
}

describe('two behind NATs', () => {
  test.each([
    ['cone', 'cone'],
    ['restricted', 'restricted'],
    ['cone', 'restricted'],
  ] as const)('%s and %s are brought together, by one connection', (a, b) => {
    expect(meet(a, b, 'utp')).toEqual({ together: true, connections: 1 });
  });

  test('without uTP they stay apart', () => {
    expect(meet('restricted', 'restricted', 'tcp')).toEqual({ together: false, connections: 0 });
  });
});

test.each(['tcp', 'utp', 'both'] as const)(
  'two that dial each other at once keep one connection, by %s',
  (transport) => {
    for (let seed = 1; seed <= 6; seed++) {
      const world = new World({ seed, poison: true });
      const torrent = world.makeTorrent({ pieces: 400, pieceLength: 4 * BLOCK_BYTES });
      const sessions = [0, 1].map(() => {
        return new SimSession(world.addNode({ upBps: 300_000, latencyMs: 20 }), torrent, { transport });
      });
      world.run(200);
      const [a, b] = sessions as [SimSession, SimSession];
      a.entry!.finder.addPeer(b.node.host.ip, 6881, CandidateSource.Tracker);
      b.entry!.finder.addPeer(a.node.host.ip, 6881, CandidateSource.Tracker);
      world.run(900);
      expect(sessions.map(({ entry }) => entry!.swarm.peers.length)).toEqual([1, 1]);
    }
  },
);
