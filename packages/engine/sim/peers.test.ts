/** What a session stands from bad peers, with the figures of DEMANDS 4.4 (W5-W13), in virtual time. */

import { describe, expect, test } from 'vitest';
import { readU32, utf8Encode } from '../src/base/bytes.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { torrentStats } from '../src/session/torrent-stats.ts';
import { checkSession, checkStopped } from './checkers.ts';
import { FakeHost, type FakePeer, Msg, type Script } from './fake-peer.ts';
import { hostileScript, seedScript } from './hostile.ts';
import type { NodeOptions } from './node.ts';
import { SIM_FOLDER, SimSession, type SimSessionOptions } from './sim-session.ts';
import type { SimTorrent, SimTorrentSpec } from './torrent.ts';
import { World } from './world.ts';

interface Seed {
  readonly script: (torrent: SimTorrent) => Script;
  readonly upBps?: number;
  readonly ip?: string;
}

interface Scene {
  readonly world: World;
  readonly torrent: SimTorrent;
  readonly session: SimSession;
  readonly hosts: FakeHost[];
}

const honest: Seed = { script: (torrent) => seedScript(torrent) };

/** A leech that knows these seeds. */
function leech(seed: number, spec: SimTorrentSpec, seeds: readonly Seed[], node: NodeOptions = {}): Scene {
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
function seeding(seed: number, spec: SimTorrentSpec, node: NodeOptions = {}, options: SimSessionOptions = {}): Scene {
  const world = new World({ seed });
  const torrent = world.makeTorrent(spec);
  const machine = world.addNode({ latencyMs: 5, ...node });
  machine.disk.install(torrent, SIM_FOLDER);
  const session = new SimSession(machine, torrent, options);
  world.runUntil(() => session.isDone, 60_000);
  return { world, torrent, session, hosts: [] };
}

function stranger(scene: Scene, script: Script = {}, ip?: string): FakePeer {
  const host = new FakeHost(scene.world, { latencyMs: 5, ...(ip === undefined ? {} : { ip }) }, () => script);
  scene.hosts.push(host);
  return host.dial({ ip: scene.session.node.host.ip, port: 6881 });
}

/** Seconds until it is complete. */
function finish(scene: Scene, limitMs = 3_600_000): number {
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

function stop(scene: Scene): void {
  let stopped = false;
  scene.session.stop(() => {
    stopped = true;
  });
  expect(scene.world.runUntil(() => stopped, 30_000)).toBe(true);
  expect(checkStopped(scene.session)).toBe(null);
}

function bannedBy(scene: Scene): string[] {
  const banned = scene.session.warnings.map((warning) => /banned (\S+):/.exec(warning)?.[1]);
  return [...new Set(banned.filter((ip) => ip !== undefined))];
}

function stats(scene: Scene) {
  return torrentStats(scene.session.entry!);
}

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

describe('what nobody asked for', () => {
  test('W8: unsolicited blocks are not written, and counted', () => {
    const scene = leech(8, { pieces: 20, pieceLength: 4 * BLOCK_BYTES }, []);
    const { world, torrent, session } = scene;
    world.run(1000);
    const peer = stranger(scene);
    peer.expectUp();
    peer.sendHandshake(torrent);
    peer.send(Msg.HaveNone);
    for (let n = 0; n < 200; n++) peer.sendBlock(torrent, n % 20, BLOCK_BYTES * (n % 4), BLOCK_BYTES);
    world.run(20_000);
    expect(stats(scene)).toMatchObject({ wasted: 200 * BLOCK_BYTES, piecesDone: 0, bytesDone: 0 });
    expect(session.node.disk.usedBytes()).toBe(0);
    expect(peer.closed).toBe(false);
    for (let n = 0; n < 100; n++) peer.sendBlock(torrent, n % 20, 0, BLOCK_BYTES);
    peer.expectClosed();
    stop(scene);
  });

  test('W13: 100,000 allowed-fast messages', () => {
    const scene = leech(9, { pieces: 2000, pieceLength: BLOCK_BYTES }, []);
    scene.world.run(1000);
    const peer = stranger(scene);
    peer.expectUp();
    peer.sendHandshake(scene.torrent);
    peer.send(Msg.HaveAll);
    for (let n = 0; n < 100_000; n++) peer.send(Msg.AllowedFast, n % 2000);
    scene.world.run(5000);
    const [known] = scene.session.entry!.swarm.peers;
    expect(known!.fastPieces.length).toBeLessThanOrEqual(16);
    expect(peer.closed).toBe(false);
  });
});

describe('W13: what a choked peer gets', () => {
  const askAll = (torrent: SimTorrent, got: Map<number, number>, rejected: { count: number }): Script => ({
    onUp: (peer) => {
      peer.sendHandshake(torrent);
      peer.send(Msg.HaveNone);
      for (let round = 0; round < 4; round++) {
        for (let p = 0; p < torrent.pieceCount; p++) peer.send(Msg.Request, p, 0, BLOCK_BYTES);
      }
    },
    onMessage: (_peer, message) => {
      if (message.id === Msg.Reject) rejected.count++;
      if (message.id !== Msg.Piece) return;
      const piece = readU32(message.payload, 0);
      got.set(piece, (got.get(piece) ?? 0) + 1);
    },
  });

  test('at most 10 pieces, the same ones for a /24, and one reject for each other request', () => {
    const scene = seeding(10, { pieces: 100, pieceLength: BLOCK_BYTES });
    const sets = ['93.184.216.7', '93.184.216.99', '93.184.217.7'].map((ip) => {
      const got = new Map<number, number>();
      const rejected = { count: 0 };
      stranger(scene, askAll(scene.torrent, got, rejected), ip);
      scene.world.run(5000);
      const served = [...got.values()].reduce((sum, n) => sum + n, 0);
      expect(got.size).toBe(10);
      // 10 pieces of one block, twice
      expect(served).toBeLessThanOrEqual(20);
      expect(served + rejected.count).toBe(400);
      return [...got.keys()].sort((a, b) => a - b).join();
    });
    expect(sets[0]).toBe(sets[1]);
    expect(sets[0]).not.toBe(sets[2]);
    stop(scene);
  });

  test('a hundred of them that read nothing leave most of the memory to others', () => {
    const scene = seeding(11, { pieces: 200, pieceLength: 4 * BLOCK_BYTES }, { slots: 1024 });
    scene.world.net.windowBytes = 8192;
    for (let i = 0; i < 100; i++) {
      const got = new Map<number, number>();
      const peer = stranger(scene, {
        ...askAll(scene.torrent, got, { count: 0 }),
        onHandshake: (each) => each.pause(),
      });
      expect(peer.closed).toBe(false);
    }
    scene.world.run(30_000);
    const { slots } = scene.session.core.ports;
    expect(scene.session.entry!.swarm.peers.length).toBe(100);
    expect(slots.freeCount).toBeGreaterThan(slots.count / 4);
    scene.world.run(200_000);
    stop(scene);
  });
});

describe('W5, W6: floods of requests, and readers that stand still', () => {
  function asker(scene: Scene, requests: (torrent: SimTorrent, peer: FakePeer) => void, fast = true): FakePeer {
    const peer = stranger(scene);
    peer.expectUp();
    peer.sendHandshake(scene.torrent, { fast });
    if (fast) peer.send(Msg.HaveNone);
    peer.send(Msg.Interested);
    peer.expect(Msg.Unchoke, 20_000);
    peer.pause();
    requests(scene.torrent, peer);
    return peer;
  }
  const held = (scene: Scene): number => {
    const { slots } = scene.session.core.ports;
    // what is kept for reading again is no reader's
    return (slots.count - slots.freeCount - scene.session.core.readCache.usedCount) * BLOCK_BYTES;
  };

  test('5,000 requests: 2,000 are queued, the others rejected, each has one answer', () => {
    const scene = seeding(12, { pieces: 100, pieceLength: 4 * BLOCK_BYTES }, { upBps: 4_000_000 });
    const peer = asker(scene, (torrent, each) => {
      for (let n = 0; n < 5000; n++) each.send(Msg.Request, n % torrent.pieceCount, BLOCK_BYTES * (n & 3), BLOCK_BYTES);
    });
    peer.resume();
    let most = 0;
    scene.world.runUntil(() => {
      most = Math.max(most, scene.session.entry!.swarm.peers[0]?.uploads.count ?? 0);
      return false;
    }, 60_000);
    const pieces = peer.messages.filter((message) => message.id === Msg.Piece).length;
    const rejects = peer.messages.filter((message) => message.id === Msg.Reject).length;
    expect(most).toBeLessThanOrEqual(2000);
    expect(pieces + rejects).toBe(5000);
    expect(pieces).toBeGreaterThanOrEqual(2000);
    stop(scene);
  });

  const shapes: [string, (n: number, torrent: SimTorrent) => [number, number, number], boolean][] = [
    ['whole blocks', (n, torrent) => [n % torrent.pieceCount, BLOCK_BYTES * (n & 3), BLOCK_BYTES], true],
    ['one byte each', (n, torrent) => [n % torrent.pieceCount, BLOCK_BYTES * ((n >> 1) & 3), 1], true],
    ['17 KiB over two blocks', (n, torrent) => [n % torrent.pieceCount, 1000, 17 * 1024], true],
    ['a whole piece of 64 KiB', (n, torrent) => [n % torrent.pieceCount, 0, 65536], true],
    ['whole blocks, without the fast extension', (n, torrent) => [n % torrent.pieceCount, 0, BLOCK_BYTES], false],
  ];
  test.each(shapes)(
    'a reader that stands still, %s: at most 1 MiB queued, dropped after 120 s',
    (_name, shape, fast) => {
      const scene = seeding(13, { pieces: 500, pieceLength: 4 * BLOCK_BYTES }, { slots: 2048 });
      scene.world.net.windowBytes = 4096;
      const peer = asker(
        scene,
        (torrent, each) => {
          for (let n = 0; n < 2000; n++) each.send(Msg.Request, ...shape(n, torrent));
        },
        fast,
      );
      const from = scene.world.now;
      const [known] = scene.session.entry!.swarm.peers;
      let most = 0;
      let queued = 0;
      scene.world.runUntil(() => {
        most = Math.max(most, held(scene));
        queued = Math.max(queued, known!.conversation.queuedBytes);
        return known!.closed;
      }, 300_000);
      // one MiB that waits, half a MiB that is out, and what is being read
      expect(queued).toBeLessThanOrEqual((1 << 20) + 131072);
      expect(most).toBeLessThanOrEqual(4 << 20);
      expect(known!.closed).toBe(true);
      expect(scene.world.now - from).toBeGreaterThan(115_000);
      expect(scene.world.now - from).toBeLessThan(fast ? 125_000 : 145_000);
      expect(peer.closed || scene.world.now > 0).toBe(true);
      stop(scene);
    },
  );
});

describe('W14: metadata from liars', () => {
  /** Speaks of metadata of `size` bytes and serves that, a piece each `everyMs`. */
  const teller = (torrent: SimTorrent, bytes: Uint8Array, everyMs: number): Script => {
    const inner = seedScript(torrent);
    return {
      onUp: (peer) => {
        inner.onUp!(peer);
        peer.sendExtended({ m: { ut_metadata: 7 }, metadata_size: bytes.length });
      },
      onMessage: (peer, message) => {
        if (message.id !== Msg.Extended || message.payload[0] !== 7) return inner.onMessage!(peer, message);
        const text = String.fromCharCode(...message.payload.subarray(1));
        const piece = Number(/5:piecei([0-9]+)e/.exec(text)![1]);
        const head = `d8:msg_typei1e5:piecei${piece}e10:total_sizei${bytes.length}ee`;
        const data = bytes.slice(piece * 16384, piece * 16384 + 16384);
        const ascii = Uint8Array.from(head, (c) => c.charCodeAt(0));
        // 1: the number under which the session receives it
        peer.world.call(everyMs, () => peer.send(Msg.Extended, Uint8Array.of(1), ascii, data));
      },
    };
  };

  const lies: [string, (right: Uint8Array) => Uint8Array, number, number][] = [
    ['wrong', (right) => right.map((byte) => byte ^ 1), 10, 2],
    ['of another size', (right) => new Uint8Array(right.length + 5), 10, 2],
    ['of 16 MiB, a piece in 9 s', () => new Uint8Array(16 << 20), 9000, 2],
    ['of another size, never', () => new Uint8Array(40_000), 1e9, 2],
    ['wrong, a piece in 4 s', (right) => right.map((byte) => byte ^ 1), 4000, 1],
  ];
  test.each(lies)('%s: the right one is there within 10 s of its peer', (_name, lie, everyMs, liarCount) => {
    const world = new World({ seed: 16 });
    const torrent = world.makeTorrent({ pieces: 2000, pieceLength: BLOCK_BYTES });
    const tell = (bytes: Uint8Array, ms: number): FakeHost => {
      const host = new FakeHost(world, {}, () => teller(torrent, bytes, ms));
      host.listen();
      return host;
    };
    const liars = Array.from({ length: liarCount }, () => tell(lie(torrent.infoBytes), everyMs));
    const node = world.addNode({ slots: 256 });
    const session = new SimSession(node, torrent, { magnet: true, peers: liars.map((host) => host.endpoint) });
    world.run(2000);
    tell(torrent.infoBytes, 10).dial({ ip: node.host.ip, port: 6881 });
    const from = world.now;
    expect(world.runUntil(() => session.entry!.meta !== null, 60_000)).toBe(true);
    expect(world.now - from).toBeLessThanOrEqual(10_000);
    expect(world.runUntil(() => session.isDone, 60_000)).toBe(true);
  });
});

describe('W14: requests for metadata', () => {
  test.each([
    ['small', 2],
    ['of several pieces', 4000],
  ])(
    '%s: 5,000 of them draw no more than twice its size in a minute, and the next minute is served again',
    (_name, pieces) => {
      const scene = seeding(19, { pieces, pieceLength: BLOCK_BYTES });
      const { torrent, world } = scene;
      const peer = stranger(scene);
      peer.expectUp();
      peer.sendHandshake(torrent);
      peer.sendExtended({ m: { ut_metadata: 7 } });
      peer.send(Msg.HaveNone);
      world.run(1000);
      const count = Math.ceil(torrent.infoBytes.length / 16384);
      const ask = (n: number): void => {
        peer.send(Msg.Extended, Uint8Array.of(1), utf8Encode(`d8:msg_typei0e5:piecei${n % (count + 1)}ee`));
      };
      const before = peer.receivedBytes;
      for (let n = 0; n < 5000; n++) ask(n);
      world.run(50_000);
      const got = peer.messages.splice(0).filter(({ id, payload }) => id === Msg.Extended && payload.length > 100);
      expect(got.length).toBeGreaterThanOrEqual(count);
      expect(peer.receivedBytes - before).toBeLessThanOrEqual(2 * torrent.infoBytes.length + 128);
      expect(peer.closed).toBe(false);
      world.run(20_000);
      ask(0);
      world.run(1000);
      expect(peer.messages.some(({ id }) => id === Msg.Extended)).toBe(true);
    },
  );
});

describe('silence', () => {
  test('W3: a handshake that does not come, or comes a byte a second, ends within 10 s', () => {
    const scene = seeding(14, { pieces: 2 });
    const mute = stranger(scene);
    const slow = stranger(scene, {
      onSecond: (peer) => peer.sendRaw(Uint8Array.of([19, 66, 105, 116, 84, 111, 114][peer.world.rng.below(1)]!)),
    });
    mute.expectUp();
    const from = scene.world.now;
    scene.world.runUntil(() => mute.closed && slow.closed, 20_000);
    expect(scene.world.now - from).toBeLessThanOrEqual(10_050);
    expect(mute.closed && slow.closed).toBe(true);
  });

  test('a peer that comes again while its old connection is dead is taken; while it lives, it is not', () => {
    const scene = seeding(17, { pieces: 2 });
    const { world, torrent, session } = scene;
    const host = new FakeHost(world, { latencyMs: 5 });
    const peerId = new Uint8Array(20).fill(9);
    const again = (): FakePeer => {
      const peer = host.dial({ ip: session.node.host.ip, port: 6881 });
      peer.expectUp();
      peer.sendHandshake(torrent, { peerId });
      peer.send(Msg.HaveNone);
      world.run(1000);
      return peer;
    };
    const first = again();
    expect(again().closed).toBe(true);
    expect(first.closed).toBe(false);
    world.run(10_000);
    const third = again();
    expect([first.closed, third.closed]).toEqual([true, false]);
    expect(session.entry!.swarm.peers.length).toBe(1);
  });

  test('a keep-alive every two minutes keeps a connection; without one it ends', () => {
    const scene = seeding(18, { pieces: 2 });
    const join = (): FakePeer => {
      const peer = stranger(scene);
      peer.expectUp();
      peer.sendHandshake(scene.torrent);
      peer.send(Msg.HaveNone);
      peer.send(Msg.Interested);
      return peer;
    };
    const alive = join();
    const dead = join();
    const beat = (): void => {
      alive.sendRaw(new Uint8Array(4));
      scene.world.call(120_000, beat);
    };
    beat();
    scene.world.run(400_000);
    expect([alive.closed, dead.closed]).toEqual([false, true]);
  });

  test('N1: the network is gone for 60 s: within 30 s all is as before', () => {
    const seeds = [honest, honest, honest].map((each) => ({ ...each, upBps: 1_000_000 }));
    const scene = leech(15, { pieces: 2000, pieceLength: 16 * BLOCK_BYTES }, seeds);
    const { world, session } = scene;
    world.run(20_000);
    const before = session.entry!.swarm.down.total;
    world.run(10_000);
    const rate = session.entry!.swarm.down.total - before;
    session.node.host.online = false;
    world.run(60_000);
    session.node.host.online = true;
    world.net.healed();
    world.run(30_000);
    const after = session.entry!.swarm.down.total;
    world.run(10_000);
    expect((session.entry!.swarm.down.total - after) / rate).toBeGreaterThanOrEqual(0.9);
  });
});
