/** A session in the simulation that meets scripted peers: as a leech with seeds that it knows, or as a seed. */

import { expect } from 'vitest';
import { checkSession, checkStopped } from '../sim/checkers.ts';
import { FakeHost, type FakePeer, type Script } from '../sim/fake-peer.ts';
import { seedScript } from '../sim/hostile.ts';
import type { NodeOptions } from '../sim/node.ts';
import { SIM_FOLDER, SimSession, type SimSessionOptions } from '../sim/sim-session.ts';
import type { SimTorrent, SimTorrentSpec } from '../sim/torrent.ts';
import { World } from '../sim/world.ts';
import { torrentStats } from '../src/session/torrent-stats.ts';
import type { TorrentStats } from '../src/session/types.ts';

export interface Seed {
  readonly script: (torrent: SimTorrent) => Script;
  readonly upBps?: number;
  readonly ip?: string;
}

export interface Scene {
  readonly world: World;
  readonly torrent: SimTorrent;
  readonly session: SimSession;
  readonly hosts: FakeHost[];
}

export const honest: Seed = { script: (torrent) => seedScript(torrent) };

/** A leech that knows these seeds. */
export function leech(seed: number, spec: SimTorrentSpec, seeds: readonly Seed[], node: NodeOptions = {}): Scene {
  const world = new World({ seed, turnMs: 1 });
  const torrent = world.makeTorrent(spec);
  const hosts = seeds.map((each) => {
    const { script, upBps = 1_000_000, ip } = each;
    const host = new FakeHost(world, { upBps, latencyMs: 10, ...(ip === undefined ? {} : { ip }) }, () =>
      script(torrent),
    );
    host.listen();
    return host;
  });
  const session = new SimSession(world.addNode({ slots: 2048, latencyMs: 10, ...node }), torrent, {
    peers: hosts.map((host) => host.endpoint),
  });
  return { world, torrent, session, hosts };
}

/** A seeding session and one stranger per script that dials it. */
export function seeding(
  seed: number,
  spec: SimTorrentSpec,
  node: NodeOptions = {},
  options: SimSessionOptions = {},
): Scene {
  const world = new World({ seed });
  const torrent = world.makeTorrent(spec);
  const machine = world.addNode({ latencyMs: 5, ...node });
  machine.disk.install(torrent, SIM_FOLDER);
  const session = new SimSession(machine, torrent, options);
  world.runUntil(() => session.isDone, 60_000);
  return { world, torrent, session, hosts: [] };
}

export function stranger(scene: Scene, script: Script = {}, ip?: string): FakePeer {
  const host = new FakeHost(scene.world, { latencyMs: 5, ...(ip === undefined ? {} : { ip }) }, () => script);
  scene.hosts.push(host);
  return host.dial({ ip: scene.session.node.host.ip, port: 6881 });
}

/** Seconds until it is complete. */
export function finish(scene: Scene, limitMs = 3_600_000): number {
  const { world, session } = scene;
  const from = world.now;
  let wrong: string | null = null;
  let at = world.now;
  const done = world.runUntil(() => {
    if (world.now >= at) {
      at = world.now + 2000;
      wrong ??= checkSession(session);
    }
    return session.isDone || wrong !== null;
  }, limitMs);
  expect(wrong).toBe(null);
  expect(done).toBe(true);
  for (let p = 0; p < scene.torrent.pieceCount; p++) {
    if (!session.node.disk.isRight(scene.torrent, SIM_FOLDER, p)) throw new Error(`false: piece ${p}`);
  }
  return (session.doneAtMs - from) / 1000;
}

export function stop(scene: Scene): void {
  let stopped = false;
  scene.session.stop(() => {
    stopped = true;
  });
  expect(scene.world.runUntil(() => stopped, 30_000)).toBe(true);
  expect(checkStopped(scene.session)).toBe(null);
}

export function bannedBy(scene: Scene): string[] {
  const banned = scene.session.warnings.map((warning) => /banned (\S+):/.exec(warning)?.[1]);
  return [...new Set(banned.filter((ip) => ip !== undefined))];
}

export function stats(scene: Scene): TorrentStats {
  return torrentStats(scene.session.entry!);
}
