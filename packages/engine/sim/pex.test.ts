/** Peer exchange among real sessions and against liars: BEP 11, BEP 27, and the figures of DEMANDS W1, W17, W18. */

import { describe, expect, test } from 'vitest';
import { utf8Encode } from '../src/base/bytes.ts';
import type { Endpoint } from '../src/base/ports.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { CandidateSource } from '../src/swarm/peer-book.ts';
import { checkDatagram, checkSession, checkStopped, datagramOf } from './checkers.ts';
import { FakeHost, type FakePeer, Msg, readPex, type Script } from './fake-peer.ts';
import { seedScript } from './hostile.ts';
import { SIM_FOLDER, SimSession, type SimSessionOptions } from './sim-session.ts';
import type { SimTorrent, SimTorrentSpec } from './torrent.ts';
import { WireCheck } from './wire-check.ts';
import { World } from './world.ts';

interface Swarm {
  readonly world: World;
  readonly torrent: SimTorrent;
  readonly check: WireCheck;
  readonly sessions: SimSession[];
}

function makeSwarm(seed: number, spec: SimTorrentSpec): Swarm {
  const world = new World({ seed, poison: true });
  return { world, torrent: world.makeTorrent(spec), check: new WireCheck(world), sessions: [] };
}

/** A session with the content, or one that knows only these peers. */
function join(swarm: Swarm, knows: readonly SimSession[] | 'all', options: SimSessionOptions = {}): SimSession {
  const { world, torrent, check } = swarm;
  const node = world.addNode({ upBps: 1_000_000, latencyMs: 10 });
  check.watch(node);
  if (knows === 'all') node.disk.install(torrent, SIM_FOLDER);
  const peers = knows === 'all' ? [] : knows.map((session) => ({ ip: session.node.host.ip, port: 6881 }));
  const session = new SimSession(node, torrent, { pex: true, peers, ...options });
  check.booted(node, torrent, SIM_FOLDER);
  swarm.sessions.push(session);
  world.run(100);
  return session;
}

function peersOf(session: SimSession): number {
  return session.entry?.swarm.peers.length ?? 0;
}

function stop(swarm: Swarm): void {
  let left = swarm.sessions.length;
  for (const session of swarm.sessions) session.stop(() => left--);
  expect(swarm.world.runUntil(() => left === 0, 30_000)).toBe(true);
  for (const session of swarm.sessions) expect(checkStopped(session)).toBe(null);
}

/** A connection made by hand, with its extension handshake out and the other side's in. */
function stranger(swarm: Swarm, to: SimSession, script: Script = {}, ip?: string): FakePeer {
  const host = new FakeHost(swarm.world, { latencyMs: 5, ...(ip === undefined ? {} : { ip }) }, () => script);
  host.listen();
  const peer = host.dial({ ip: to.node.host.ip, port: 6881 });
  peer.expectUp();
  if (script.onUp === undefined) {
    peer.sendHandshake(swarm.torrent);
    peer.send(Msg.HaveNone);
  }
  peer.sendExtended({ m: { ut_pex: 9 }, p: 6881 });
  swarm.world.run(100);
  return peer;
}

/** Addresses of machines that do not exist. */
function bogus(swarm: Swarm, count: number): Endpoint[] {
  const { rng } = swarm.world;
  return Array.from({ length: count }, () => ({
    ip: `77.${rng.below(256)}.${rng.below(256)}.${rng.below(256)}`,
    port: 6881,
  }));
}

describe('a swarm without a tracker', () => {
  test('in which each knows only the one before finds together and finishes', () => {
    const swarm = makeSwarm(1, { pieces: 200, pieceLength: 4 * BLOCK_BYTES });
    let last = join(swarm, 'all');
    for (let n = 0; n < 15; n++) last = join(swarm, [last]);
    const { world, sessions } = swarm;
    // chains are as good as nothing: the one at the end has heard of most others within two rounds
    expect(world.runUntil(() => sessions.every((session) => peersOf(session) >= 12 || session.isDone), 200_000)).toBe(
      true,
    );
    expect(world.runUntil(() => sessions.every(({ isDone }) => isDone), 300_000)).toBe(true);
    for (const session of sessions) expect(checkSession(session)).toBe(null);
    expect(swarm.check.violations).toEqual([]);
    stop(swarm);
  });

  test('in which one knows four others: a newcomer finds them within 10 s of meeting it', () => {
    const swarm = makeSwarm(2, { pieces: 2000, pieceLength: 4 * BLOCK_BYTES });
    const hub = join(swarm, 'all');
    for (let n = 0; n < 4; n++) join(swarm, [hub]);
    swarm.world.run(5000);
    const newcomer = join(swarm, [hub]);
    expect(swarm.world.runUntil(() => peersOf(newcomer) === 5, 10_000)).toBe(true);
    expect(newcomer.entry!.finder.book.counts()).toMatchObject({ tracker: 0, pex: 4 });
    expect(swarm.check.violations).toEqual([]);
  });

  test('in which PEX is off stays as it is', () => {
    const swarm = makeSwarm(3, { pieces: 2000, pieceLength: 4 * BLOCK_BYTES });
    const hub = join(swarm, 'all', { pex: false });
    const sessions = [1, 2, 3].map(() => join(swarm, [hub]));
    const one = stranger(swarm, hub);
    expect(one.pexNumber).toBe(0);
    swarm.world.run(200_000);
    for (const session of sessions) expect(peersOf(session)).toBe(1);
    expect(one.messages.some((message) => readPex(message, 9) !== null)).toBe(false);
    expect(hub.entry!.swarm.pex).toBe(null);
  });

  test('tells of who leaves, and of those who came in by the port they named', () => {
    const swarm = makeSwarm(4, { pieces: 4, pieceLength: BLOCK_BYTES });
    const hub = join(swarm, 'all');
    const [ear, guest] = [stranger(swarm, hub), stranger(swarm, hub)];
    const name = `${guest.conn!.local.ip}:6881`;
    const told = (): { added: string[]; dropped: string[] }[] =>
      ear.messages.splice(0).flatMap((message) => readPex(message, 9) ?? []);
    swarm.world.run(5000);
    expect(told()).toEqual([{ added: [name], dropped: [] }]);
    guest.close();
    swarm.world.run(80_000);
    expect(told()).toEqual([{ added: [], dropped: [name] }]);
    expect(swarm.check.violations).toEqual([]);
  });
});

describe('W18: a private torrent', () => {
  test('neither says nor hears of others', () => {
    const swarm = makeSwarm(5, { pieces: 2000, pieceLength: 4 * BLOCK_BYTES, private: true });
    const hub = join(swarm, 'all');
    const leeches = [1, 2, 3].map(() => join(swarm, [hub]));
    const liar = stranger(swarm, hub);
    expect(liar.pexNumber).toBe(0);
    liar.pexNumber = 4;
    liar.sendPex(bogus(swarm, 50));
    swarm.world.run(130_000);
    for (const session of leeches) expect(peersOf(session)).toBe(1);
    expect(hub.entry!.finder.book.counts().pex).toBe(0);
    expect(liar.messages.some((message) => readPex(message, 9) !== null)).toBe(false);
    expect([liar.closed, swarm.check.violations]).toEqual([false, []]);
  });

  test.each([true, false])('asks nobody for a way to whom it cannot reach (private: %s)', (isPrivate) => {
    const swarm = makeSwarm(10, { pieces: 4, pieceLength: BLOCK_BYTES, private: isPrivate });
    const session = join(swarm, [], { transport: 'both' });
    const helper = stranger(swarm, session);
    helper.sendExtended({ m: { ut_holepunch: 9 } });
    swarm.world.run(1000);
    const [nobody] = bogus(swarm, 1);
    session.entry!.finder.addPeer(nobody!.ip, nobody!.port, CandidateSource.Tracker);
    swarm.world.run(60_000);
    const asked = helper.messages.some(({ id, payload }) => id === Msg.Extended && payload[0] === 9);
    expect([asked, swarm.check.violations]).toEqual([!isPrivate, []]);
  });

  test('asks who told of an address that does not answer, not others', () => {
    const swarm = makeSwarm(11, { pieces: 4, pieceLength: BLOCK_BYTES });
    const session = join(swarm, [], { transport: 'both' });
    const helpers = [1, 2, 3, 4, 5].map(() => stranger(swarm, session));
    for (const helper of helpers) helper.sendExtended({ m: { ut_pex: 9, ut_holepunch: 8 } });
    swarm.world.run(1000);
    helpers[3]!.sendPex(bogus(swarm, 1));
    swarm.world.run(3500);
    const asked = helpers.map(({ messages }) =>
      messages.filter((one) => one.id === Msg.Extended && one.payload[0] === 8),
    );
    expect(asked.map(({ length }) => length)).toEqual([0, 0, 0, 1, 0]);
  });

  test.each([true, false])('asks no DHT and no neighbours (private: %s)', (isPrivate) => {
    const swarm = makeSwarm(9, { pieces: 200, pieceLength: 4 * BLOCK_BYTES, private: isPrivate });
    const { world } = swarm;
    const spoken = new Set<string>();
    const bootstrap: string[] = [];
    world.net.udp.tap = (_from, _ip, _port, bytes): void => {
      const what = datagramOf(world, bytes);
      if (what !== null) spoken.add(what);
      const wrong = checkDatagram(world, bytes);
      if (wrong !== null) spoken.add(`wrong: ${wrong}`);
    };
    for (let n = 0; n < 4; n++) {
      const node = world.addNode({ lan: 'home' });
      if (n === 0) node.disk.install(swarm.torrent, SIM_FOLDER);
      const dht = { bootstrap: [...bootstrap], port: null, readOnly: false, uploadRateBps: 8000 };
      bootstrap.push(`${node.host.ip}:6881`);
      swarm.sessions.push(new SimSession(node, swarm.torrent, { pex: true, lsd: true, dht }));
      world.run(1000);
    }
    world.run(120_000);
    const found = swarm.sessions.slice(1).every((session) => session.isDone);
    expect([found, [...spoken].sort()]).toEqual(isPrivate ? [false, []] : [true, ['DHT', 'LSD']]);
  });

  test('that was a magnet says nothing before it is known, and hears nothing after', () => {
    const swarm = makeSwarm(6, { pieces: 4, pieceLength: BLOCK_BYTES, private: true });
    const { torrent, world } = swarm;
    const session = new SimSession(world.addNode(), torrent, { magnet: true, pex: true });
    world.run(100);
    const liars = [1, 2].map(() => stranger(swarm, session));
    world.run(10_000);
    liars[0]!.sendPex(bogus(swarm, 10));
    world.run(1000);
    expect(session.entry!.finder.book.counts().pex).toBe(10);
    const head = utf8Encode(`d8:msg_typei1e5:piecei0e10:total_sizei${torrent.infoBytes.length}ee`);
    const giver = stranger(swarm, session, {
      onMessage: (peer, message) => {
        if (message.id === Msg.Extended && message.payload[0] === 3) {
          peer.send(Msg.Extended, Uint8Array.of(1), head, torrent.infoBytes);
        }
      },
    });
    giver.sendExtended({ m: { ut_metadata: 3 }, metadata_size: torrent.infoBytes.length });
    expect(world.runUntil(() => session.entry!.state === 'downloading', 30_000)).toBe(true);
    const liar = liars[1]!;
    liar.sendPex(bogus(swarm, 10));
    world.run(100_000);
    expect(session.entry!.swarm.pex).toBe(null);
    expect(session.entry!.finder.book.counts().pex).toBeLessThanOrEqual(10);
    for (const peer of liars) expect(peer.messages.some((message) => readPex(message, 9) !== null)).toBe(false);
  });
});

describe('W1: PEX that is wrong', () => {
  const text = (value: string): ((peer: FakePeer) => void) => {
    return (peer) => peer.send(Msg.Extended, Uint8Array.of(peer.pexNumber), utf8Encode(value));
  };
  const cases: [string, (peer: FakePeer) => void, boolean][] = [
    ['nothing', text(''), true],
    ['no dictionary', text('li1ee'), true],
    ['cut short', text('d5:added60:abc'), true],
    ['nested 200,000 deep', text('l'.repeat(40_000)), true],
    ['an empty dictionary', text('de'), false],
    ['half an address', text('d5:added3:abce'), false],
    ['wrong flags', text('d5:added6:abcdef7:added.f3:abce'), false],
    ['numbers for lists', text('d5:addedi1e7:droppedi-1ee'), false],
    ['60 kB', (peer) => peer.sendPex(Array.from({ length: 9000 }, () => ({ ip: '77.1.1.1', port: 1 }))), false],
    ['600 kB', (peer) => peer.sendPex(Array.from({ length: 90_000 }, () => ({ ip: '77.1.1.1', port: 1 }))), true],
    ['a 7th within a minute', (peer) => [1, 2, 3, 4, 5, 6, 7].map(() => peer.sendPex([])), true],
  ];
  test.each(cases)('%s', (_name, say, closes) => {
    for (const before of [0, 64]) {
      const swarm = makeSwarm(7, { pieces: 500, pieceLength: 4 * BLOCK_BYTES });
      const session = join(swarm, []);
      const peer = stranger(swarm, session, seedScript(swarm.torrent, { blockMs: 20 }));
      // a megabyte of good traffic first
      swarm.world.runUntil(() => (session.entry!.swarm.have?.count ?? 0) * 4 >= before, 60_000);
      const other = stranger(swarm, session);
      say(peer);
      swarm.world.run(20_000);
      expect([peer.closed, other.closed]).toEqual([closes, false]);
      expect(checkSession(session)).toBe(null);
      stop(swarm);
    }
  });
});

describe('W17: a poisoned list of 100,000', () => {
  /** Tells of machines that do not exist, as fast as it may without being closed. */
  const poisoner = (swarm: Swarm): Script => {
    let left = 100_000;
    let seconds = 0;
    return {
      onMessage: () => {},
      onSecond: (peer) => {
        if (seconds++ % 11 !== 0 || left === 0) return;
        left -= 2000;
        peer.sendPex(bogus(swarm, 2000));
      },
    };
  };

  test.each([1, 5, 20])('from each of %i peers: the live seed that another names is found within 60 s', (count) => {
    const swarm = makeSwarm(8, { pieces: 20, pieceLength: 4 * BLOCK_BYTES });
    const { world } = swarm;
    const session = join(swarm, []);
    for (let n = 0; n < count; n++) stranger(swarm, session, poisoner(swarm), `66.1.${n}.1`);
    world.run(20_000);
    const seed = new FakeHost(world, {}, () => seedScript(swarm.torrent));
    seed.listen();
    const from = world.now;
    stranger(swarm, session).sendPex([seed.endpoint]);
    let most = 0;
    expect(
      world.runUntil(() => {
        most = Math.max(most, session.entry!.finder.book.count);
        return session.isDone;
      }, 300_000),
    ).toBe(true);
    expect((world.now - from) / 1000).toBeLessThanOrEqual(60);
    expect(most).toBeLessThanOrEqual(3000);
  });
});
