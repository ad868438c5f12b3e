/**
 * What a leech stands from peers that send wrong data, or do not send what they promise, with the figures of DEMANDS 4.4
 * (W9, W10, W12), in virtual time.
 */

import { describe, expect, test } from 'vitest';
import { readU32 } from '../src/base/bytes.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { bannedBy, finish, honest, leech, type Seed, stats, stop } from '../test/scene.ts';
import { FakeHost, type FakePeer, Msg, type Script } from './fake-peer.ts';
import { hostileScript, seedScript } from './hostile.ts';
import type { SimTorrent, SimTorrentSpec } from './torrent.ts';

describe('W9: a poisoner among five', () => {
  const corrupts = (torrent: SimTorrent, piece: number, block: number): boolean =>
    block === piece % torrent.blockCount(piece);
  const poisoner: Seed = {
    script: (torrent) => seedScript(torrent, { corrupt: (piece, block) => corrupts(torrent, piece, block) }),
  };
  const cases: [string, SimTorrentSpec, number, number][] = [
    ['pieces of one block', { pieces: 300, pieceLength: BLOCK_BYTES }, 1_000_000, 2048],
    ['pieces of 4 blocks', { pieces: 200, pieceLength: 4 * BLOCK_BYTES }, 1_000_000, 2048],
    ['pieces of 16 blocks', { pieces: 120, pieceLength: 16 * BLOCK_BYTES }, 1_000_000, 2048],
    ['a fast poisoner', { pieces: 120, pieceLength: 16 * BLOCK_BYTES }, 10_000_000, 2048],
    ['a slow poisoner', { pieces: 120, pieceLength: 16 * BLOCK_BYTES }, 100_000, 2048],
    ['little memory', { pieces: 120, pieceLength: 16 * BLOCK_BYTES }, 1_000_000, 64],
    ['large pieces', { pieces: 100, pieceLength: 64 * BLOCK_BYTES }, 1_000_000, 2048],
  ];
  for (const [name, spec, upBps, slots] of cases) {
    test(name, () => {
      for (const seed of [1, 2, 3]) {
        const seeds = [honest, honest, { ...poisoner, upBps }, honest, honest];
        const scene = leech(seed, spec, seeds, { slots });
        finish(scene);
        const bad = scene.hosts[2]!.host.ip;
        // with little memory all help each other at the oldest pieces, and it may be that nothing of it is taken
        expect(bannedBy(scene)).toEqual(stats(scene).hashFails === 0 ? [] : [bad]);
        if (slots > 64) expect(stats(scene).hashFails).toBeGreaterThan(0);
        expect(stats(scene).hashFails).toBeLessThanOrEqual(3);
        expect(stats(scene).wasted).toBeLessThanOrEqual(scene.torrent.length * 0.1);
        stop(scene);
      }
    });
  }

  test('pieces above 4 MiB, which are hashed and written as they come', () => {
    for (const seed of [1, 3]) {
      const seeds = [honest, honest, poisoner, honest, honest].map((each) => ({ ...each, upBps: 20_000_000 }));
      const scene = leech(seed, { pieces: 100, pieceLength: 320 * BLOCK_BYTES }, seeds, { slots: 4096 });
      finish(scene);
      expect(bannedBy(scene)).toEqual([scene.hosts[2]!.host.ip]);
      expect(stats(scene).hashFails).toBeLessThanOrEqual(3);
      expect(stats(scene).wasted).toBeLessThanOrEqual(scene.torrent.length * 0.1);
    }
  });

  test('one that leaves before the verdict and comes back is banned, and stays out for an hour', () => {
    let connections = 0;
    const hitAndRun = (torrent: SimTorrent): Script => {
      connections++;
      let sent = 0;
      const inner = seedScript(torrent, { corrupt: () => true });
      return {
        onUp: (peer) => inner.onUp!(peer),
        onMessage: (peer, message) => {
          if (message.id === Msg.Request && ++sent > 2) peer.close();
          else inner.onMessage!(peer, message);
        },
      };
    };
    const scene = leech(7, { pieces: 200, pieceLength: 16 * BLOCK_BYTES }, [honest, honest, { script: hitAndRun }]);
    const { world, hosts, session } = scene;
    const bad = hosts[2]!;
    // it dials again as soon as it is gone
    const again = (): void => {
      if (hosts[2]!.peers.every((peer) => peer.closed)) bad.dial({ ip: session.node.host.ip, port: 6881 });
      if (world.now < 60_000) world.call(200, again);
    };
    world.call(1000, again);
    finish(scene);
    expect(bannedBy(scene)).toEqual([bad.host.ip]);
    expect(stats(scene).hashFails).toBeLessThanOrEqual(3);
    const comeBack = (): FakePeer => {
      const peer = bad.dial({ ip: session.node.host.ip, port: 6881 });
      world.run(3000);
      return peer;
    };
    world.run(60_000);
    const peersBefore = connections;
    expect(comeBack().closed).toBe(true);
    world.run(3_400_000);
    expect(comeBack().closed).toBe(true);
    world.run(200_000);
    expect(connections).toBe(peersBefore + 2);
    const late = bad.dial({ ip: session.node.host.ip, port: 6881 });
    world.run(3000);
    expect(late.handshake).not.toBe(null);
  });
});

describe('W10: poison in the endgame', () => {
  test.each([1, 2, 3, 4, 5, 6])('completes, seed %i', (seed) => {
    const liar: Seed = { script: (torrent) => seedScript(torrent, { corrupt: () => true }), upBps: 5_000_000 };
    const once: Seed = { script: (torrent) => seedScript(torrent, { corrupt: (_p, block) => block === 0 }) };
    const scene = leech(seed, { pieces: 2, pieceLength: 8 * BLOCK_BYTES }, [honest, liar, honest, once, honest]);
    expect(finish(scene)).toBeLessThan(60);
    for (const ip of bannedBy(scene)) expect([scene.hosts[1]!.host.ip, scene.hosts[3]!.host.ip]).toContain(ip);
    stop(scene);
  });
});

describe('W12: liars cost at most a fifth more time', () => {
  const spec = { pieces: 104, pieceLength: 16 * BLOCK_BYTES };
  const seeds = [honest, honest, honest, honest].map((each) => ({ ...each, upBps: 500_000 }));
  const without = (seed: number): number => finish(leech(seed, spec, seeds));
  const trickler = (torrent: SimTorrent): Script => trickle(torrent, 1, 1000);
  const liars: [string, (torrent: SimTorrent) => Script][] = [
    ['rejects all', (torrent) => hostileScript(torrent, 'rejecter')],
    ['never answers', (torrent) => hostileScript(torrent, 'silent')],
    ['one block a minute', (torrent) => hostileScript(torrent, 'slow')],
    ['one block in 15 s', (torrent) => seedScript(torrent, { blockMs: 15_000 })],
    ['a byte a second', trickler],
    ['chokes and unchokes', flapper],
    ['poison, then silence', poisonThenSilence],
    ['allowed fast, then rejects', fastRejecter],
  ];
  test.each(liars)('%s', (_name, script) => {
    for (const seed of [1, 2]) {
      const alone = without(seed);
      for (const count of [1, 3]) {
        const lying = Array.from({ length: count }, () => ({ script, upBps: 500_000 }));
        const scene = leech(seed, spec, [...lying, ...seeds]);
        expect(finish(scene) / alone).toBeLessThanOrEqual(1.2);
        stop(scene);
      }
    }
  });

  test('the last piece, held by a liar, is asked of another within 60 s', () => {
    for (const [, script] of liars) {
      const scene = leech(3, { pieces: 1, pieceLength: 8 * BLOCK_BYTES }, [{ script }]);
      scene.world.run(5000);
      const host = new FakeHost(scene.world, {}, () => seedScript(scene.torrent));
      host.dial({ ip: scene.session.node.host.ip, port: 6881 });
      expect(finish(scene)).toBeLessThanOrEqual(60);
    }
  });

  test.each([
    ['goes silent', Infinity, 40],
    ['sends a block in 15 s', 15_000, 60],
  ])('with all on parole, one that has the last piece to itself and %s does not keep it', (_name, everyMs, limitS) => {
    // both send half of the only piece, one of them bad; then the bad one is the first to be asked again
    const bad = (torrent: SimTorrent): Script => {
      let sent = 0;
      const inner = seedScript(torrent, { corrupt: () => true });
      return {
        onUp: (peer) => inner.onUp!(peer),
        onMessage: (peer, message) => {
          if (message.id !== Msg.Request || sent++ < 4) return inner.onMessage!(peer, message);
          if (everyMs < Infinity) peer.world.call((sent - 4) * everyMs, () => inner.onMessage!(peer, message));
        },
        onSecond: (peer) => peer.sendRaw(new Uint8Array(4)),
      };
    };
    const good = (torrent: SimTorrent): Script => {
      let sent = 0;
      const inner = seedScript(torrent);
      return {
        onUp: (peer) => inner.onUp!(peer),
        onMessage: (peer, message) => {
          inner.onMessage!(peer, message);
          if (message.id !== Msg.Request || ++sent !== 4) return;
          peer.send(Msg.Choke);
          peer.world.call(2000, () => peer.send(Msg.Unchoke));
        },
      };
    };
    const scene = leech(4, { pieces: 1, pieceLength: 8 * BLOCK_BYTES }, [{ script: bad }, { script: good }]);
    expect(finish(scene, 600_000)).toBeLessThanOrEqual(limitS);
    expect(stats(scene).hashFails).toBeGreaterThan(0);
    stop(scene);
  });
});

/** Sends the first block asked for bad, then nothing more, but stays. */
function poisonThenSilence(torrent: SimTorrent): Script {
  let sent = 0;
  const inner = seedScript(torrent, { corrupt: () => true });
  return {
    onUp: (peer) => inner.onUp!(peer),
    onMessage: (peer, message) => {
      if (message.id === Msg.Request && ++sent > 4) return;
      inner.onMessage!(peer, message);
    },
    onSecond: (peer) => peer.sendRaw(new Uint8Array(4)),
  };
}

/** Answers each request, `bytes` at a time. */
function trickle(torrent: SimTorrent, bytes: number, everyMs: number): Script {
  const inner = seedScript(torrent, { answers: 'nothing' });
  const queue: Uint8Array[] = [];
  let going = false;
  const go = (peer: FakePeer): void => {
    const next = queue[0];
    if (next === undefined || peer.closed) {
      going = false;
      return;
    }
    peer.sendRaw(next.slice(0, bytes));
    if (next.length > bytes) queue[0] = next.slice(bytes);
    else queue.shift();
    peer.world.call(everyMs, () => go(peer));
  };
  return {
    onUp: (peer) => inner.onUp!(peer),
    onMessage: (peer, message) => {
      if (message.id !== Msg.Request) return inner.onMessage!(peer, message);
      const [piece, begin, length] = [0, 4, 8].map((at) => readU32(message.payload, at)) as [number, number, number];
      const whole = new Uint8Array(13 + length);
      new DataView(whole.buffer).setUint32(0, 9 + length);
      whole[4] = Msg.Piece;
      whole.set(message.payload.subarray(0, 8), 5);
      whole.set(torrent.read(piece * torrent.pieceLength + begin, length), 13);
      queue.push(whole);
      if (!going) go(peer);
      going = true;
    },
  };
}

/** Unchokes, takes requests, chokes and rejects them, again and again. */
function flapper(torrent: SimTorrent): Script {
  const inner = seedScript(torrent, { answers: 'nothing' });
  return {
    onUp: (peer) => inner.onUp!(peer),
    onMessage: (peer, message) => {
      if (message.id !== Msg.Request) return inner.onMessage!(peer, message);
      peer.send(Msg.Choke);
      peer.send(Msg.Reject, message.payload);
      peer.world.call(100, () => peer.send(Msg.Unchoke));
    },
  };
}

/** Stays choked, lets us ask for ten pieces, and rejects. */
function fastRejecter(torrent: SimTorrent): Script {
  const inner = seedScript(torrent, { answers: 'nothing' });
  return {
    onUp: (peer) => {
      inner.onUp!(peer);
      for (let i = 0; i < 10; i++) peer.send(Msg.AllowedFast, i % torrent.pieceCount);
    },
    onMessage: (peer, message) => {
      if (message.id === Msg.Request) peer.send(Msg.Reject, message.payload);
    },
  };
}
