import { expect, test } from 'vitest';
import { utf8Encode } from '../src/base/bytes.ts';
import { FakeHost, FakePeer, Msg } from './fake-peer.ts';
import { seedScript } from './hostile.ts';
import { WireCheck } from './wire-check.ts';
import { World } from './world.ts';

test('two fake peers shake hands, ask and serve', () => {
  const world = new World({ seed: 41, poison: true });
  const torrent = world.makeTorrent({ pieces: 3, pieceLength: 32768 });
  const seed = new FakeHost(world, {}, () => seedScript(torrent, { corrupt: (piece) => piece === 2 }));
  seed.listen();
  const peer = new FakeHost(world).dial(seed.endpoint);
  peer.expectUp();
  peer.sendHandshake(torrent);
  expect(peer.expectHandshake()[27]! & 4).toBe(4);
  peer.expect(Msg.HaveAll);
  peer.send(Msg.Interested);
  peer.expect(Msg.Unchoke);
  for (const piece of [1, 2]) {
    peer.send(Msg.Request, piece, 16384, 16384);
    const { payload } = peer.expect(Msg.Piece);
    const right = torrent.read(piece * 32768 + 16384, 16384);
    expect(payload.length).toBe(16392);
    expect(payload.subarray(8).every((byte, i) => byte === right[i])).toBe(piece === 1);
  }
  peer.close();
  peer.expectClosed();
});

test('the wire check sees false claims, wrong content, and PEX and holepunch where it must not be', () => {
  const lies: [(peer: FakePeer) => void, string | null][] = [
    [(peer) => peer.send(Msg.Have, 1), null],
    [(peer) => peer.send(Msg.Have, 2), 'claims piece 2'],
    [(peer) => peer.send(Msg.Bitfield, Uint8Array.from([0b01000000])), null],
    [(peer) => peer.send(Msg.Bitfield, Uint8Array.from([0b01100000])), 'claims piece 2'],
    [(peer) => peer.send(Msg.HaveAll), 'claims piece 0'],
    [(peer) => peer.send(Msg.Piece, 1, 16384, torrentBytes(peer, 1, 16384)), null],
    [(peer) => peer.send(Msg.Piece, 1, 16384, torrentBytes(peer, 1, 0)), 'wrong content for 1:16384'],
    [(peer) => peer.send(Msg.Piece, 2, 32768, new Uint8Array(40)), 'outside the torrent'],
    [(peer) => peer.sendExtended({ m: { ut_pex: 1 } }), 'PEX in a private'],
    [(peer) => peer.send(Msg.Extended, Uint8Array.of(3), utf8Encode('d5:added0:e')), 'PEX in a private'],
    [(peer) => peer.sendExtended({ m: { ut_holepunch: 5 } }), 'holepunch in a private'],
    [(peer) => peer.send(Msg.Extended, Uint8Array.of(5), new Uint8Array(12)), 'holepunch in a private'],
    [(peer) => peer.send(Msg.Port, Uint8Array.from([1, 2])), 'PORT in a private'],
    [
      (peer) => {
        for (let i = 0; i < 2001; i++) peer.send(Msg.Request, 0, 0, 16384);
      },
      '2001 requests',
    ],
  ];
  for (const [lie, found] of lies) {
    const world = new World({ seed: 42 });
    const torrent = world.makeTorrent({ pieces: 3, pieceLength: 32768, private: true });
    const node = world.addNode({ upBps: 1e6 });
    const check = new WireCheck(world);
    check.watch(node);
    check.booted(node, torrent, '/d');
    node.verified.get(torrent.id)!.set(1);
    // a machine that is watched too, so that its answers would be counted
    const watched = world.addNode();
    check.watch(watched);
    const far = new FakePeer(world);
    watched.boot().net.listen(
      { ip: '0.0.0.0', port: 6881 },
      {
        onListening: () => {},
        onAccept: (conn) => {
          conn.sink = far;
          far.carry(conn);
        },
        onListenFault: () => {},
      },
    );
    const peer = new FakePeer(world);
    peer.carry(world.net.connect(node.host, { ip: watched.host.ip, port: 6881 }, peer));
    peer.expectUp();
    peer.sendHandshake(torrent);
    peer.send(Msg.Have, 1);
    lie(peer);
    peer.send(Msg.Unchoke);
    world.run(1000);
    expect(far.messages.at(-1)!.id).toBe(Msg.Unchoke);
    if (found === null) expect(check.violations).toEqual([]);
    else expect(check.violations.join()).toContain(found);
    expect(check.messageCount).toBeGreaterThan(2);
  }
});

function torrentBytes(peer: FakePeer, piece: number, begin: number): Uint8Array {
  return peer.world.torrents[0]!.read(piece * 32768 + begin, 16384);
}

test('the wire check sees PEX of strangers, of too many, twice, and of the peer itself', () => {
  const world = new World({ seed: 43 });
  const torrent = world.makeTorrent({ pieces: 3, pieceLength: 32768 });
  const check = new WireCheck(world);
  const node = world.addNode();
  const [near, far] = [new FakeHost(world), new FakeHost(world)];
  check.watch(node);
  check.booted(node, torrent, '/d');
  node.boot();
  const dial = (host: FakeHost): FakePeer => {
    host.listen();
    const peer = new FakePeer(world);
    peer.carry(world.net.connect(node.host, host.endpoint, peer));
    peer.expectUp();
    peer.sendHandshake(torrent);
    peer.pexNumber = 7;
    return peer;
  };
  const peer = dial(near);
  dial(far);
  const seen = (say: () => void): string => {
    say();
    world.run(100);
    return check.violations.splice(0).join();
  };
  const stranger = { ip: '93.184.216.34', port: 1 };
  expect(seen(() => peer.sendPex([far.endpoint]))).toBe('');
  expect(seen(() => peer.sendPex([], [far.endpoint]))).toBe('');
  expect(seen(() => peer.sendPex([], [far.endpoint]))).toContain('never told');
  expect(seen(() => peer.sendPex([far.endpoint]))).toBe('');
  expect(seen(() => peer.sendPex([far.endpoint]))).toContain('twice');
  expect(seen(() => peer.sendPex([near.endpoint]))).toContain('of itself');
  expect(seen(() => peer.sendPex([stranger], [far.endpoint]))).toContain('not met');
  const crowd = Array.from({ length: 51 }, (_, i) => ({ ip: far.endpoint.ip, port: i + 1 }));
  expect(seen(() => peer.sendPex(crowd))).toContain('too many');
});
