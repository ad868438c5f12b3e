/**
 * What a session stands from peers that ask for too much, say too much or nothing, with the figures of DEMANDS 4.4 (W3, W5,
 * W6, W8, W13, W14) and N1, in virtual time.
 */

import { describe, expect, test } from 'vitest';
import { readU32, utf8Encode } from '../src/base/bytes.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { honest, leech, type Scene, seeding, stats, stop, stranger } from '../test/scene.ts';
import { FakeHost, type FakePeer, Msg, type Script } from './fake-peer.ts';
import { seedScript } from './hostile.ts';
import { SimSession } from './sim-session.ts';
import type { SimTorrent } from './torrent.ts';
import { World } from './world.ts';

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
