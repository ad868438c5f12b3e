import { expect, test } from 'vitest';
import type { TrackerStatus } from '../src/discovery/tracker.ts';
import { SIM_FOLDER, SimSession } from './sim-session.ts';
import { SimUdpTracker } from './udp-tracker.ts';
import { World } from './world.ts';

const URL = 'udp://tracker.example:6969/announce?passkey=0123456789';

function setUp(seed: number, trackers: string[] = [URL]) {
  const world = new World({ seed });
  const node = world.addNode();
  const tracker = new SimUdpTracker(world, node, 6969);
  world.net.names.set('tracker.example', [node.host.ip]);
  const torrent = world.makeTorrent({ pieces: 4, trackers });
  const status = (session: SimSession, at = 0): TrackerStatus =>
    session.entry!.finder.announcer.status(session.core.turn.now)[at]!;
  return { world, tracker, torrent, status };
}

test('a swarm meets at a UDP tracker, with passkey and counts, and parts from it', () => {
  const { world, tracker, torrent, status } = setUp(41);
  const seeder = world.addNode();
  seeder.disk.install(torrent, SIM_FOLDER);
  const seed = new SimSession(seeder, torrent, { existing: 'trust' });
  world.run(1000);
  const leech = new SimSession(world.addNode(), torrent);
  expect(world.runUntil(() => leech.isDone, 60_000)).toBe(true);
  world.run(5000);
  expect(tracker.announces.map(({ event, left }) => [event, left > 0])).toEqual([
    [2, false],
    [2, true],
    [1, false],
  ]);
  expect(new Set(tracker.announces.map(({ data }) => data))).toEqual(new Set(['/announce?passkey=0123456789']));
  expect(new Set(tracker.announces.map(({ key }) => key)).size).toBe(2);
  expect(status(leech)).toMatchObject({ status: 'working', seeders: 2, leechers: 0, peers: 1 });
  expect(leech.entry!.finder.announcer.scrape(leech.core.turn.now)).toBe(true);
  leech.core.begin();
  world.run(5000);
  expect(status(leech)).toMatchObject({ seeders: 2, downloads: 7 });
  leech.stop(() => {});
  world.run(3000);
  expect(leech.stopped).toBe(true);
  expect(tracker.announces.at(-1)).toMatchObject({ event: 3, numWant: 0 });
  expect(tracker.members(torrent.infoHashHex)).toHaveLength(1);
  seed.stop(() => {});
  world.run(3000);
  expect(tracker.members(torrent.infoHashHex)).toHaveLength(0);
});

test('a restarted tracker costs one connect; a dead address and a dead tracker cost 30 s at most', () => {
  const dead = 'udp://dead.example:6969';
  const { world, tracker, torrent, status } = setUp(42, [dead, URL]);
  world.net.names.set('dead.example', [world.addNode().host.ip]);
  const { host } = world.nodes[0]!;
  world.net.names.set('tracker.example', ['192.0.2.7', host.ip]);
  const session = new SimSession(world.addNode(), torrent);
  world.run(29_000);
  expect(tracker.announces).toHaveLength(0);
  expect(status(session)).toMatchObject({ status: 'announcing' });
  world.run(18_000);
  expect(status(session, 0)).toMatchObject({ status: 'failed', message: expect.stringMatching(/^no answer from /) });
  expect(status(session, 1)).toMatchObject({ status: 'working' });
  tracker.forget();
  const before = tracker.packetCount;
  // the connection id is still good as far as we know, and its refusal is not the last word
  session.stop(() => {});
  world.run(3000);
  expect(tracker.announces.map(({ event }) => event)).toEqual([2, 3]);
  expect(tracker.packetCount - before).toBe(3);
});

test('a refusal, an unknown name and a URL without a port are shown for what they are', () => {
  const bad = ['udp://nowhere.example:1', 'udp://tracker.example/announce'];
  const { world, tracker, torrent, status } = setUp(43, [URL, ...bad]);
  tracker.mode = 'failure';
  const session = new SimSession(world.addNode(), torrent);
  world.run(2000);
  expect(status(session, 0)).toMatchObject({ status: 'failed', message: 'not today', fails: 1 });
  expect(status(session, 1).message).toMatch(/nowhere\.example/);
  expect(status(session, 2).message).toMatch(/a host and a port/);
  tracker.mode = 'up';
  world.run(60_000);
  expect(status(session, 0)).toMatchObject({ status: 'working', message: null, fails: 0 });
});

test('on a lossy path announces get through', () => {
  const { world, tracker, torrent } = setUp(44);
  world.nodes[0]!.host.path = { loss: 0.2, jitterMs: 100, duplicate: 0.1, mtuBytes: 1500, queueMs: 250 };
  const sessions = Array.from({ length: 40 }, () => new SimSession(world.addNode(), torrent));
  world.run(120_000);
  expect(tracker.members(torrent.infoHashHex).length).toBe(sessions.length);
});
