/**
 * A private torrent (BEP 27) is told of to its trackers and to nobody else, whatever is turned on. What its Shoal sends is
 * captured, and so is what a Shoal sends that does the same with a public torrent, which shows that the capture sees it.
 */

import assert from 'node:assert/strict';
import { type Arena, interop } from './harness/arena.ts';
import { type Capture, packetsWith } from './harness/capture.ts';
import { addressOf, type Finding } from './harness/clients/client.ts';
import type { Shoal } from './harness/clients/shoal.ts';
import { PexProbe } from './harness/pex-probe.ts';
import { encode, type MadeTorrent } from './harness/torrent.ts';
import { pause, until } from './harness/wait.ts';

/** Long enough for whatever comes a little after the rest. */
const AFTER_MS = 10_000;
const UT_PEX = Buffer.from('6:ut_pex');

interface Watched {
  readonly torrent: MadeTorrent;
  readonly shoal: Shoal;
  readonly capture: Capture;
  readonly probes: readonly PexProbe[];
  /** As in the DHT, and as in the local network in both cases of letters. */
  readonly hash: Buffer;
  readonly texts: readonly Buffer[];
}

const body = async (arena: Arena): Promise<void> => {
  const dht = await arena.closedDht();
  const finding: Finding = { dht: dht.entry, pex: true, lsd: true };
  const tracker = await arena.tracker();
  const [open, hidden] = await Promise.all([
    watch(arena, arena.torrent({ tracker: tracker.url, pieceLength: 2_097_152 }), finding),
    watch(arena, arena.torrent({ tracker: tracker.url, pieceLength: 2_097_152, private: true }), finding),
  ]);
  // the capture sees all of it
  await until('the public torrent is told of everywhere', async () => await toldEverywhere(open), {
    timeoutMs: 100_000,
    everyMs: 500,
  });
  await pause(AFTER_MS);

  const said = await hidden.capture.read();
  const none = { udp: 0, tcp: 0, multicast: 0 };
  assert.equal(packetsWith(said, hidden.hash).udp, 0, 'no datagram has the hash');
  for (const text of hidden.texts) assert.deepEqual(packetsWith(said, text), none, 'nothing has it as text');
  assert.deepEqual(packetsWith(said, UT_PEX), none, 'ut_pex is not offered');
  assert.equal(said.counts.multicast, 0);
  assert.equal(said.counts.krpc['announce_peer'] ?? 0, 0);
  assert.ok(said.counts.tcp > 0 && said.counts.udp > 0, 'something was captured: the DHT itself is on');
  for (const probe of hidden.probes) {
    assert.equal(probe.closed, false);
    assert.notEqual(probe.handshake, null);
    assert.equal(probe.theirPexId, null);
    assert.deepEqual(probe.messages, []);
  }
  // what it is told by PEX it does not take
  const stranger = arena.place('stranger');
  const added = Buffer.from([...(await stranger).ip.split('.').map(Number), 0xc0, 0x01]);
  hidden.probes[0]!.tell(encode({ added, 'added.f': Buffer.from([0]) }));
  await pause(2000);
  const sources = hidden.shoal.run!.last('progress')!['sources'] as Record<string, number>;
  assert.equal(sources['dht'], 0);
  assert.equal(sources['pex'], 0);
  assert.equal(sources['lsd'], 0);
  assert.ok(sources['tracker']! > 0 || sources['incoming']! > 0);
};

interop('a private torrent is silent', ['namespace', 'lan', 'libtorrent'], body, { timeout: 200_000 });

/** A seed with three peers: a libtorrent that its tracker names, and two probes that come in. */
async function watch(arena: Arena, torrent: MadeTorrent, finding: Finding): Promise<Watched> {
  const shoal = await arena.shoal({ command: 'seed', finding });
  const hash = Buffer.from(torrent.infoHash, 'hex');
  const texts = [Buffer.from(torrent.infoHash), Buffer.from(torrent.infoHash.toUpperCase())];
  const capture = await arena.capture(shoal.place.ip, [hash, ...texts, UT_PEX]);
  await arena.seed(shoal, torrent);
  const leech = await arena.client('libtorrent', { pex: true });
  await arena.leech(leech, torrent);
  const probes: PexProbe[] = [];
  for (let i = 0; i < 2; i++) {
    const { ip } = await arena.place('probe');
    const probe = new PexProbe(shoal.place.ip, shoal.place.port, ip, torrent.infoHash);
    arena.keep({ name: `probe of ${addressOf(shoal)}`, stop: async () => probe.close(), tail: () => '' });
    probes.push(probe);
  }
  return { torrent, shoal, capture, probes, hash, texts };
}

async function toldEverywhere({ capture, hash, texts, probes }: Watched): Promise<boolean> {
  const said = await capture.read();
  const inDht = packetsWith(said, hash).udp > 0 && (said.counts.krpc['announce_peer'] ?? 0) > 0;
  const inNetwork = texts.some((text) => packetsWith(said, text).multicast > 0);
  const offered = packetsWith(said, UT_PEX).tcp > 0;
  return inDht && inNetwork && offered && probes.every((probe) => probe.messages.length > 0);
}
