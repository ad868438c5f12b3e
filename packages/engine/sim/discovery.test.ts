/** How a session asks the DHT and knows peers, at the edges: signals, closing, runs without a network, sources, rules. */

import { describe, expect, test, vi } from 'vitest';
import { concat, utf8Encode } from '../src/base/bytes.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { encode } from '../src/codec/bencode.ts';
import { parseTorrent } from '../src/codec/metainfo.ts';
import { DhtClient } from '../src/session/dht-client.ts';
import { pause } from '../src/session/waiting.ts';
import { ClientRules } from '../src/swarm/client-rules.ts';
import { CandidateSource } from '../src/swarm/peer-book.ts';
import { FakeHost, Msg } from './fake-peer.ts';
import { seedScript } from './hostile.ts';
import { SimSession, type SimSessionOptions } from './sim-session.ts';
import { World } from './world.ts';

const DHT = { bootstrap: [] as string[], port: null, readOnly: false, uploadRateBps: 8000 };
const TARGET = '00'.repeat(20);

function makeWorld(isPrivate = false): { world: World; session: (options?: SimSessionOptions) => SimSession } {
  const world = new World({ seed: 3, poison: true });
  const torrent = world.makeTorrent({ pieces: 4, pieceLength: BLOCK_BYTES, private: isPrivate });
  const session = (options: SimSessionOptions = {}): SimSession => {
    const made = new SimSession(world.addNode(), torrent, { trackers: false, ...options });
    world.run(2000);
    return made;
  };
  return { world, session };
}

/** Two nodes that know each other. */
function pair(): { world: World; session: SimSession; client: DhtClient } {
  const { world, session } = makeWorld();
  const other = session({ dht: DHT });
  const bootstrap = [`${other.node.host.ip}:6881`];
  const made = session({ dht: { ...DHT, bootstrap } });
  world.run(5000);
  expect(made.core.discovery.dht!.stats.nodes4).toBe(1);
  return { world, session: made, client: new DhtClient(made.core) };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'resolved',
    (error) => error.code ?? String(error),
  );
}

describe('a call of the DHT', () => {
  test('that waits for a node ends with the session', async () => {
    const { session } = makeWorld();
    const { core } = session({ dht: DHT });
    const client = new DhtClient(core);
    const calls = [client.ready(), client.get(TARGET), client.lookup(TARGET)[Symbol.asyncIterator]().next()].map(
      codeOf,
    );
    const paused = codeOf(pause(core, 60_000, undefined));
    core.stopListening();
    expect(await Promise.all(calls)).toEqual(['closed', 'closed', 'closed']);
    expect(await codeOf(client.get(TARGET))).toBe('closed');
    expect(await paused).toBe('closed');
  });

  test('that is under way ends with the session, or with its signal', async () => {
    const { world, session, client } = pair();
    const before = session.core.discovery.dht!.stats.lookups;
    const abort = new AbortController();
    const aborted = codeOf(client.get(TARGET, { signal: abort.signal }));
    const closed = codeOf(client.get(TARGET));
    for (let i = 0; i < 10; i++) await Promise.resolve();
    expect(session.core.discovery.dht!.stats.lookups).toBe(before + 2);
    abort.abort();
    expect(await aborted).toBe('aborted');
    world.run(1);
    expect(session.core.discovery.dht!.stats.lookups).toBe(before + 1);
    session.core.stopListening();
    expect(await closed).toBe('closed');
  });

  test('begins nothing with a signal that is aborted already', async () => {
    const { session, client } = pair();
    const before = session.core.discovery.dht!.stats.queriesOut;
    const signal = AbortSignal.abort();
    expect(await codeOf(client.get(TARGET, { signal }))).toBe('aborted');
    expect(await codeOf(client.lookup(TARGET, { signal })[Symbol.asyncIterator]().next())).toBe('aborted');
    expect(session.core.discovery.dht!.stats.queriesOut).toBe(before);
  });

  test('with arguments of another form is refused', async () => {
    const { client } = pair();
    const seed = new Uint8Array(32);
    expect(await codeOf(client.get('zz'))).toBe('bad-option');
    expect(await codeOf(client.getMutable(undefined as never))).toBe('bad-option');
    for (const cas of [-1, 0.5, Number.NaN]) {
      expect(await codeOf(client.putMutable(1, { seed, seq: 1, cas }))).toBe('bad-option');
    }
  });
});

test('a run without a network does not forget the nodes of earlier ones', () => {
  const { world, session } = pair();
  const { records } = session.node.records;
  let ended = 0;
  session.core.closeUdp(() => session.stop(() => ended++));
  expect(world.runUntil(() => ended === 1, 10_000)).toBe(true);
  const saved = records.get('dht')!;
  expect(saved.length).toBeGreaterThan(20);

  session.node.host.online = false;
  for (const ranMs of [1, 60_000]) {
    const again = new SimSession(session.node, session.torrent, { dht: DHT });
    world.run(ranMs);
    again.core.closeUdp(() => again.stop(() => ended++));
    const before = ended;
    expect(world.runUntil(() => ended > before, 10_000)).toBe(true);
    expect(records.get('dht')).toEqual(saved);
  }
});

test.each([true, false])('who a magnet link named is nobody to a private torrent (private: %s)', (isPrivate) => {
  const { finder } = makeWorld(isPrivate).session().entry!;
  finder.addPeer('77.1.1.1', 6881, CandidateSource.Magnet);
  expect(finder.book.count).toBe(isPrivate ? 0 : 1);
  finder.addPeer('77.1.1.2', 6881, CandidateSource.Manual);
  expect(finder.book.count).toBe(isPrivate ? 1 : 2);
});

test('a program that is not let in is not kept as connected', () => {
  const { world, session } = makeWorld();
  const made = session();
  made.core.clients = new ClientRules([{ action: 'deny', client: 'Xunlei' }]);
  const peer = new FakeHost(world).dial({ ip: made.node.host.ip, port: 6881 });
  peer.expectUp();
  peer.sendHandshake(made.torrent);
  peer.send(Msg.HaveNone);
  peer.sendExtended({ m: {}, v: 'Xunlei 1.0', p: 6881 });
  world.run(1000);
  expect(peer.closed).toBe(true);
  expect([made.entry!.finder.book.connectedCount, made.entry!.swarm.peers.length]).toEqual([0, 0]);
});

test('a torrent that comes later knows how the world sees us', () => {
  const { world, session } = makeWorld();
  const made = session();
  for (let n = 1; n <= 3; n++) made.core.discovery.vote(Uint8Array.of(80, 1, 2, 3), `90.${n}.0.1`, 'peer');
  expect(made.core.discovery.external.ip4).toBe('80.1.2.3');
  const { entry } = made;
  const later = made.core.add({ ...entry!.options, infoHash: new Uint8Array(20).fill(7), meta: null });
  for (const book of [entry!.finder.book, later.finder.book]) book.add('91.0.0.1', 1, CandidateSource.Tracker);
  const [a, b] = [entry!, later].map(({ finder }) => finder.book.priority(finder.book.find('91.0.0.1', 1)));
  expect(a).toBe(b);
  world.run(1);
});

describe('nodes that others name', () => {
  test('in a torrent are asked, some dozens of them', () => {
    const { world, session } = makeWorld();
    const { core, entry, torrent } = session({ dht: DHT });
    const asked: string[] = [];
    core.ports.net.resolve = (host) => void asked.push(host);
    const nodes = Array.from({ length: 5000 }, (_, i) => [`n${i}.example`, 6881]);
    const meta = parseTorrent(
      concat([utf8Encode('d4:info'), torrent.infoBytes, utf8Encode('5:nodes'), encode(nodes), utf8Encode('e')]),
    );
    expect(meta.nodes).toHaveLength(5000);
    const named = core.add({ ...entry!.options, infoHash: new Uint8Array(20).fill(7), meta });
    named.meta = meta;
    core.discovery.join(named);
    world.run(1);
    expect(asked[0]).toBe('n0.example');
    expect(asked.length).toBeLessThan(50);
  });

  test.each([true, false])('by a PORT message are not asked for a private torrent (private: %s)', (isPrivate) => {
    const { world, session } = makeWorld(isPrivate);
    const made = session({ dht: DHT });
    const peer = new FakeHost(world).dial({ ip: made.node.host.ip, port: 6881 });
    peer.expectUp();
    peer.sendHandshake(made.torrent);
    peer.send(Msg.HaveNone);
    peer.send(Msg.Port, Uint8Array.of(0x1a, 0xe1));
    world.run(1000);
    expect(made.core.discovery.dht!.stats.queriesOut).toBe(isPrivate ? 0 : 1);
  });
});

test('bootstrap nodes are looked up again where all nodes were lost', () => {
  const { world, session } = makeWorld();
  const other = session({ dht: DHT });
  const made = session({ dht: { ...DHT, bootstrap: ['boot.example:6881'] } });
  const { discovery } = made.core;
  discovery.addNamedNode(other.node.host.ip, 6881);
  world.run(60_000);
  expect(discovery.dht!.stats.nodes4).toBe(1);
  other.node.host.online = false;
  expect(world.runUntil(() => discovery.dht!.stats.nodes4 === 0, 4 * 3600_000)).toBe(true);
  other.node.host.online = true;
  world.net.names.set('boot.example', [other.node.host.ip]);
  expect(world.runUntil(() => discovery.dht!.stats.nodes4 === 1, 900_000)).toBe(true);
});

test('who has peers and announces nothing asks the DHT no more often than who does', () => {
  const { world, session } = makeWorld();
  const other = session({ dht: DHT });
  const seed = new FakeHost(world, {}, () => seedScript(other.torrent));
  seed.listen();
  const bootstrap = [`${other.node.host.ip}:6881`];
  const made = session({ dht: { ...DHT, bootstrap }, anonymous: true, peers: [seed.endpoint] });
  expect(world.runUntil(() => made.isDone, 60_000)).toBe(true);
  // those of who looked for peers before
  world.run(600_000);
  const dht = made.core.discovery.dht!;
  const asked = vi.spyOn(dht, 'getPeers');
  world.run(3600_000);
  expect(asked.mock.calls.length).toBeLessThan(6);
});

test('a tracker does not lead to this machine by a name', () => {
  const { world, session } = makeWorld();
  const { finder } = session().entry!;
  world.net.names.set('evil.example', ['127.0.0.1', '77.1.1.1', '::1']);
  finder.onPeers(new Uint8Array(0), new Uint8Array(0), [{ host: 'evil.example', port: 80 }]);
  world.run(1000);
  expect(finder.book.count).toBe(1);
});
