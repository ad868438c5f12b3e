import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Conn } from '../src/base/ports.ts';
import { isUtp, PacketType, UtpHeader, writeFixed, writeVarying } from '../src/transport/utp-packet.ts';
import type { UtpSocket } from '../src/transport/utp-socket.ts';
import { dial, Pipe, type PipeOptions, UtpEnd, UtpMachine, UtpWorld } from './utp-link.ts';

interface Fields {
  type: number;
  id: number;
  seq: number;
  ack: number;
  micros?: number;
  window?: number;
  payload?: Uint8Array;
  sack?: readonly number[];
}

function packet({ type, id, seq, ack, micros = 1, window = 1 << 20, payload, sack }: Fields): Uint8Array {
  const head = 20 + (sack === undefined ? 0 : 2 + sack.length);
  const b = new Uint8Array(head + (payload?.length ?? 0));
  writeFixed(b, type as PacketType, sack === undefined ? 0 : 1, id, seq & 0xffff);
  writeVarying(b, micros, 0, window, ack & 0xffff);
  if (sack !== undefined) b.set([0, sack.length, ...sack], 20);
  if (payload !== undefined) b.set(payload, head);
  return b;
}

/** What a machine sends to an address where the test itself answers. */
class Peer {
  readonly got: UtpHeader[] = [];
  bytes = 0;
  readonly machine: UtpMachine;
  readonly ip: string;

  constructor(machine: UtpMachine, ip = '10.9.9.9') {
    this.machine = machine;
    this.ip = ip;
    machine.tap = (bytes, to) => {
      if (to !== undefined) return true;
      const h = new UtpHeader();
      expect(h.read(bytes)).toBe(true);
      this.got.push(h);
      this.bytes += bytes.length;
      return false;
    };
  }

  send(fields: Fields): number {
    const bytes = packet(fields);
    this.machine.receive(bytes, this.ip);
    return bytes.length;
  }

  get last(): UtpHeader {
    return this.got.at(-1)!;
  }
}

function lone(options: ConstructorParameters<typeof UtpMachine>[2] = {}) {
  const world = new UtpWorld(5);
  const machine = new UtpMachine(world, '10.0.0.1', options);
  return { world, machine, peer: new Peer(machine) };
}

function pair(seed: number, there: PipeOptions, options: ConstructorParameters<typeof UtpMachine>[2] = {}) {
  const world = new UtpWorld(seed);
  const a = new UtpMachine(world, '10.0.0.1', options);
  const b = new UtpMachine(world, '10.0.0.2', options);
  a.route(b, new Pipe(world, there));
  b.route(a, new Pipe(world, { ...there, mtu: 65_507 }));
  return { world, a, b };
}

/** Ids and first numbers are all ones: every number wraps. */
const ones = { fill: (target: Uint8Array) => target.fill(255) };
const HELLO = new Uint8Array(68).fill(7);

describe('the numbers of a uTP connection', () => {
  it('of one that dials: SYN has the id to receive by and takes a number', () => {
    const { machine, peer, world } = lone({ random: ones });
    const end = new UtpEnd(machine, 100);
    end.conn = machine.mux.connect(world.now, { ip: peer.ip, port: 6881 }, end);
    machine.turn();
    expect(peer.last).toMatchObject({ type: PacketType.Syn, id: 65535, seq: 65535 });
    peer.send({ type: PacketType.State, id: 65535, seq: 500, ack: 65535 });
    expect(end.connected).toBe(true);
    // the number of STATE is the one his first data will have
    expect(peer.last).toMatchObject({ type: PacketType.Data, id: 0, seq: 0, ack: 499 });
    peer.send({ type: PacketType.Data, id: 65535, seq: 500, ack: 0, payload: HELLO });
    world.run(world.now + 100);
    expect([end.received, peer.last.type, peer.last.ack, peer.last.seq]).toEqual([68, PacketType.State, 500, 1]);
  });

  it('of one that is dialled: STATE takes none, data begins with the same', () => {
    const { machine, peer, world } = lone();
    const end = new UtpEnd(machine, 50);
    machine.accept = (conn) => end.carry(conn);
    peer.send({ type: PacketType.Syn, id: 700, seq: 65535, ack: 0 });
    const { seq } = peer.last;
    expect(peer.last).toMatchObject({ type: PacketType.State, id: 700, ack: 65535 });
    expect(end.connected).toBe(false);
    peer.send({ type: PacketType.Syn, id: 700, seq: 65535, ack: 0 });
    expect([peer.got.length, peer.last.seq]).toEqual([2, seq]);
    peer.send({ type: PacketType.Data, id: 701, seq: 0, ack: seq - 1, payload: HELLO });
    expect(end.received).toBe(68);
    expect(peer.last).toMatchObject({ type: PacketType.Data, id: 700, seq, ack: 0 });
    // first data that comes out of order opens it as well
    peer.send({ type: PacketType.Syn, id: 800, seq: 9, ack: 0 });
    const other = peer.last.seq;
    const second = new UtpEnd(machine, 0);
    machine.accept = (conn) => second.carry(conn);
    peer.send({ type: PacketType.Data, id: 801, seq: 11, ack: other - 1, payload: HELLO });
    expect([second.received, peer.last.ack, peer.last.sackBytes]).toEqual([0, 9, 4]);
    peer.send({ type: PacketType.Data, id: 801, seq: 10, ack: other - 1, payload: HELLO });
    world.run(world.now + 1);
    expect([second.received, peer.last.ack]).toEqual([136, 11]);
  });

  it('may wrap anywhere', () => {
    const { world, a, b } = pair(3, { delayMs: 10, loss: 0.05, jitterMs: 5 }, { random: ones });
    const near = new UtpEnd(a, 500_000);
    const far = new UtpEnd(b, 0);
    dial(a, b, near, far);
    world.run(900_000, () => far.received === 500_000);
    expect([far.received, far.wrongAt]).toEqual([500_000, -1]);
  });

  it('are acknowledged once for two, at once when one is missing', () => {
    const { machine, peer } = lone();
    const end = new UtpEnd(machine, 0);
    machine.accept = (conn) => end.carry(conn);
    peer.send({ type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
    const { seq } = peer.last;
    for (let i = 1; i <= 30; i++) {
      peer.send({ type: PacketType.Data, id: 2, seq: i, ack: seq - 1, payload: HELLO });
    }
    const before = peer.got.length;
    for (let i = 31; i <= 40; i++) {
      peer.send({ type: PacketType.Data, id: 2, seq: i, ack: seq - 1, payload: HELLO });
    }
    expect(peer.got.length - before).toBe(5);
    peer.send({ type: PacketType.Data, id: 2, seq: 42, ack: seq - 1, payload: HELLO });
    expect([peer.got.length - before, peer.last.ack, peer.last.sackBytes]).toEqual([6, 40, 4]);
  });
});

describe('uTP against strangers', () => {
  it('sends no more than three times what came before its receiver showed itself (U1)', () => {
    const { machine, peer, world } = lone();
    const end = new UtpEnd(machine, 5_000_000);
    machine.accept = (conn) => end.carry(conn);
    let sent = peer.send({ type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
    // the address is forged, the number in our answer guessed
    sent += peer.send({ type: PacketType.Data, id: 2, seq: 1, ack: peer.last.seq - 1, payload: HELLO });
    expect(end.connected).toBe(true);
    world.run(world.now + 300_000);
    expect(peer.bytes).toBeLessThanOrEqual(3 * sent);
  });

  it('answers who is there with more than three times what he said, whatever is lost', () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { world, a, b } = pair(seed, { delayMs: 10, loss: seed === 1 ? 0 : 0.1 });
      const near = new UtpEnd(a, 68);
      const far = new UtpEnd(b, 400);
      dial(a, b, near, far);
      const told = world.run(world.now + 60_000, () => near.received === 400);
      // or the dial itself came to nothing
      if (near.connected) expect([seed, told, near.wrongAt]).toEqual([seed, true, -1]);
    }
  });

  it('lets who guesses wrong not guess again', () => {
    const { machine, peer } = lone();
    let accepted = 0;
    machine.accept = () => accepted++;
    peer.send({ type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
    const { seq } = peer.last;
    peer.send({ type: PacketType.Data, id: 2, seq: 1, ack: seq + 77, payload: HELLO });
    peer.send({ type: PacketType.Data, id: 2, seq: 1, ack: seq - 1, payload: HELLO });
    expect(accepted).toBe(0);
  });

  it('resets 5 times a second at most, with no more bytes than came (U2)', () => {
    const { peer, world } = lone();
    for (let i = 0; i < 100; i++) peer.send({ type: PacketType.Data, id: i, seq: 1, ack: 1, payload: HELLO });
    expect(peer.got.map((h) => h.type)).toEqual(new Array(5).fill(PacketType.Reset));
    expect(peer.last).toMatchObject({ id: 4, ack: 1 });
    world.run(world.now + 1001);
    for (let i = 0; i < 100; i++) peer.send({ type: PacketType.Fin, id: i, seq: 1, ack: 1 });
    expect([peer.got.length, peer.bytes]).toEqual([10, 200]);
    // nor are resets answered
    world.run(world.now + 1001);
    peer.send({ type: PacketType.Reset, id: 9, seq: 1, ack: 1 });
    expect(peer.got.length).toBe(10);
  });

  it('keeps little of 10,000 SYNs, and lets a friend in meanwhile (U5)', () => {
    const { world, a, b } = pair(1, { delayMs: 5 });
    let out = 0;
    b.tap = (bytes, to) => {
      if (to === undefined) out += bytes.length;
      return to !== undefined;
    };
    const flood = (from: number, to: number): void => {
      for (let i = from; i < to; i++) {
        const syn = packet({ type: PacketType.Syn, id: i & 0xffff, seq: i & 0xffff, ack: 0 });
        b.receive(syn, `198.51.${i >> 8}.${i & 255}`);
      }
    };
    flood(0, 5000);
    const far = new UtpEnd(b, 0);
    dial(a, b, new UtpEnd(a, 1000), far);
    flood(5000, 10_000);
    world.run(world.now + 1000, () => far.received === 1000);
    expect(far.received).toBe(1000);
    expect([b.mux.stats.socketCount, b.mux.stats.halfOpenCount <= 8192, out]).toEqual([1, true, 200_000]);
    expect(b.mux.pool.usedBytes).toBeLessThan(1 << 16);
    world.run(world.now + 60_000);
    expect(b.mux.stats.halfOpenCount).toBe(0);
    // one address alone does not get them all
    for (let i = 0; i < 3000; i++) b.receive(packet({ type: PacketType.Syn, id: i, seq: i, ack: 0 }), '198.51.0.1');
    expect(b.mux.stats.halfOpenCount).toBe(1024);
  });

  it('lets no more in than it may hold', () => {
    const { machine, peer } = lone({ maxSockets: 3 });
    let accepted = 0;
    machine.accept = (conn) => {
      accepted++;
      conn.sink = new UtpEnd(machine, 0);
    };
    for (let id = 0; id < 20; id += 2) {
      peer.send({ type: PacketType.Syn, id, seq: 0, ack: 0 });
      peer.send({ type: PacketType.Data, id: id + 1, seq: 1, ack: peer.last.seq - 1, payload: HELLO });
    }
    expect([accepted, machine.mux.stats.socketCount]).toEqual([3, 3]);
  });

  it('does not follow a connection to another address', () => {
    const { world, a, b } = pair(1, { delayMs: 5 });
    const near = new UtpEnd(a, 1000);
    const far = new UtpEnd(b, 0);
    dial(a, b, near, far);
    world.run(world.now + 1000);
    const { recvId } = far.conn as UtpSocket;
    b.receive(packet({ type: PacketType.Data, id: recvId, seq: 1, ack: 1, payload: HELLO }), '10.0.0.66');
    expect([far.received, b.mux.stats.resetsOut]).toEqual([1000, 1]);
  });

  it('believes a reset only from one who knows the numbers', () => {
    const { machine, peer } = lone();
    const end = new UtpEnd(machine, 50);
    machine.accept = (conn) => end.carry(conn);
    peer.send({ type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
    const { seq } = peer.last;
    peer.send({ type: PacketType.Data, id: 2, seq: 1, ack: seq - 1, payload: HELLO });
    for (const ack of [seq + 5, seq - 1000, seq + 30_000]) peer.send({ type: PacketType.Reset, id: 1, seq: 0, ack });
    peer.send({ type: PacketType.Reset, id: 3, seq: 0, ack: seq });
    expect(end.closed).toBe(false);
    peer.send({ type: PacketType.Reset, id: 1, seq: 0, ack: seq });
    expect([end.closed, end.fault?.code, machine.mux.stats.socketCount]).toEqual([true, 'ECONNRESET', 0]);
  });

  it('gains nobody anything to acknowledge what was not sent, and closes who claims what he did not get (U4)', () => {
    const { machine, peer, world } = lone();
    const end = new UtpEnd(machine, 50_000_000);
    machine.accept = (conn) => end.carry(conn);
    peer.send({ type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
    let { seq } = peer.last;
    peer.send({ type: PacketType.Data, id: 2, seq: 1, ack: seq - 1, payload: HELLO });
    const conn = end.conn as UtpSocket;
    const before = conn.congestionWindow;
    for (let i = 2; i < 100; i++) peer.send({ type: PacketType.State, id: 2, seq: 2, ack: seq + 100 * i });
    expect([conn.congestionWindow, machine.mux.stats.badIn]).toEqual([before, 98]);
    // acknowledges every packet it sees, and those between that it does not
    for (let round = 0; round < 2000 && !end.closed; round++) {
      world.run(world.now + 20);
      for (const h of peer.got.splice(0)) if (h.type === PacketType.Data) seq = h.seq;
      peer.send({ type: PacketType.State, id: 2, seq: 2, ack: seq });
    }
    expect([end.closed, end.fault?.code]).toEqual([true, 'EPROTO']);
    expect(machine.mux.stats.payloadOut).toBeLessThan(9_000_000);
  });

  it('lives through packets of every kind (U3)', () => {
    const change = fc.record({ at: fc.nat(200), value: fc.nat(255), length: fc.option(fc.nat(60)) });
    fc.assert(
      fc.property(fc.nat(), fc.array(change, { minLength: 1, maxLength: 40 }), (seed, changes) => {
        const { world, a, b } = pair(seed, { delayMs: 5, jitterMs: 5 });
        let i = 0;
        const damage = (bytes: Uint8Array): boolean => {
          const how = changes[i++ % changes.length]!;
          const cut = how.length === null ? bytes : bytes.subarray(0, how.length);
          const bad = cut.slice();
          if (bad.length > 0) bad[how.at % Math.min(bad.length, 40)] = how.value;
          if (i % 3 === 0) world.at(world.now + 1, () => b.receive(bad, a.ip));
          if (i % 5 === 0) world.at(world.now + 1, () => a.receive(bad, b.ip));
          return true;
        };
        a.tap = damage;
        b.tap = damage;
        const near = new UtpEnd(a, 30_000);
        const far = new UtpEnd(b, 30_000);
        dial(a, b, near, far);
        world.run(200_000, () => near.closed || far.closed || near.received + far.received === 60_000);
        near.conn!.close();
        far.conn?.close();
        a.turn();
        b.turn();
        world.run(world.now + 200_000);
        expect([a.mux.stats.socketCount, b.mux.stats.socketCount]).toEqual([0, 0]);
        expect([a.mux.pool.usedBytes, b.mux.pool.usedBytes]).toEqual([1536, 1536]);
      }),
      { numRuns: 200 },
    );
  });
});

describe('windows', () => {
  it('a reader that pauses stops the sender at its window, and goes on when it likes', () => {
    const { world, a, b } = pair(2, { delayMs: 10 }, { receiveWindow: 100_000 });
    const near = new UtpEnd(a, 2_000_000);
    const far = new UtpEnd(b, 0);
    dial(a, b, near, far);
    world.run(5000, () => far.received > 200_000);
    far.conn!.pause();
    world.run(world.now + 1000);
    const held = far.received;
    const used = b.mux.pool.usedBytes;
    // far longer than any time-out: the connection lives by probes that are answered
    world.run(world.now + 600_000);
    expect([far.received, near.closed]).toEqual([held, false]);
    expect(used).toBeLessThan(220_000);
    expect(b.mux.pool.usedBytes).toBeLessThan(220_000);
    expect(a.mux.stats.packetsOut - a.mux.stats.payloadOut / 1352).toBeLessThan(200);
    far.conn!.resume();
    b.turn();
    const resumed = world.now;
    world.run(world.now + 60_000, () => far.received === 2_000_000);
    expect([far.received, far.wrongAt]).toEqual([2_000_000, -1]);
    expect(world.now - resumed).toBeLessThan(20_000);
  });

  it('a peer that ignores ours gets no further than the memory for it', () => {
    const { machine, peer } = lone({ receiveWindow: 50_000 });
    const end = new UtpEnd(machine, 0);
    machine.accept = (conn) => {
      end.carry(conn);
      conn.pause();
    };
    peer.send({ type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
    const { seq } = peer.last;
    for (let i = 1; i < 2000; i++) {
      peer.send({ type: PacketType.Data, id: 2, seq: i, ack: seq - 1, payload: new Uint8Array(1000) });
    }
    expect(machine.mux.pool.usedBytes).toBeLessThan(110_000);
    for (let i = 0; i < 2000; i++) {
      peer.send({ type: PacketType.Data, id: 2, seq: 3000 + i, ack: seq - 1, payload: new Uint8Array(1000) });
    }
    expect(machine.mux.pool.usedBytes).toBeLessThan(110_000);
  });

  it('stays open before a hole, so that what closes it can come', () => {
    const { machine, peer } = lone({ receiveWindow: 50_000 });
    const end = new UtpEnd(machine, 0);
    machine.accept = (conn) => end.carry(conn);
    peer.send({ type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
    const { seq } = peer.last;
    peer.send({ type: PacketType.Data, id: 2, seq: 1, ack: seq - 1, payload: HELLO });
    for (let i = 3; i < 200; i++) {
      peer.send({ type: PacketType.Data, id: 2, seq: i, ack: seq - 1, payload: new Uint8Array(1400) });
    }
    expect([peer.last.ack, peer.last.window]).toEqual([1, 50_000]);
    expect(machine.mux.pool.usedBytes).toBeLessThan(110_000);
    peer.send({ type: PacketType.Data, id: 2, seq: 2, ack: seq - 1, payload: new Uint8Array(1400) });
    expect(peer.last.ack).toBeGreaterThan(50);
  });
});

describe('the length of packets', () => {
  const run = (link: PipeOptions, most: number, bytes = 3_000_000) => {
    const { world, a, b } = pair(4, { delayMs: 5, ...link }, { mtu: () => most });
    const near = new UtpEnd(a, bytes, 200_000);
    const far = new UtpEnd(b, 0);
    dial(a, b, near, far);
    world.run(600_000, () => far.received === bytes);
    expect([far.received, far.wrongAt]).toEqual([bytes, -1]);
    const conn = near.conn as UtpSocket;
    return { datagram: conn.datagramBytes, stats: a.mux.stats, took: far.receivedAtMs };
  };

  it('is what the path carries', () => {
    expect(run({}, 1372).datagram).toBe(1372);
    expect(run({}, 65_507).datagram).toBe(65_507);
    expect(run({ mtu: 1300 }, 1372).datagram).toBe(1232);
    expect(run({ mtu: 9000 }, 65_507, 8_000_000).datagram).toBe(8952);
    expect(run({ mtu: 1000 }, 900).datagram).toBe(900);
  });

  it('stays what a receiver reads whole that cuts the rest off and says nothing', () => {
    const { datagram, stats } = run({ cutTo: 1500 }, 65_507);
    expect([datagram, stats.timeouts]).toEqual([1472, 0]);
    expect(stats.resent).toBeLessThan(8);
  });
});

describe('the end of a connection', () => {
  it('comes after all that was sent, whatever is lost on the way', () => {
    for (let seed = 0; seed < 40; seed++) {
      const { world, a, b } = pair(seed, { delayMs: 10, loss: 0.2 });
      const near = new UtpEnd(a, 40_000, 1 << 16);
      const far = new UtpEnd(b, 0);
      near.closeAfterSending = true;
      dial(a, b, near, far);
      world.run(300_000, () => far.closed || near.fault !== null);
      if (near.fault?.message.includes('connect to')) continue;
      expect([seed, far.received, far.fault, near.closed, near.fault]).toEqual([seed, 40_000, null, true, null]);
      world.run(world.now + 200_000);
      expect([a.mux.stats.socketCount, b.mux.stats.socketCount]).toEqual([0, 0]);
    }
  });

  it('of one that nobody answers is told after 15 s', () => {
    const { machine, peer, world } = lone();
    const end = new UtpEnd(machine, 10);
    machine.mux.connect(world.now, { ip: peer.ip, port: 1 }, end);
    machine.turn();
    const started = world.now;
    world.run(world.now + 60_000, () => end.closed);
    expect([end.fault?.code, peer.got.length, machine.mux.stats.socketCount]).toEqual(['ETIMEOUT', 5, 0]);
    expect(world.now - started).toBe(15_000);
  });

  it('of one whose other side vanished is told in minutes, not never', () => {
    const { world, a, b } = pair(1, { delayMs: 10, rateBps: 1_000_000 });
    const near = new UtpEnd(a, 10_000_000);
    dial(a, b, near, new UtpEnd(b, 0));
    world.run(2000);
    a.tap = () => false;
    const gone = world.now;
    world.run(world.now + 600_000, () => near.closed);
    expect([near.fault?.code, world.now - gone < 120_000]).toEqual(['ETIMEOUT', true]);
  });

  it('does not come to one that is only idle', () => {
    const { world, a, b } = pair(1, { delayMs: 10 });
    const near = new UtpEnd(a, 100);
    const far = new UtpEnd(b, 100);
    dial(a, b, near, far);
    world.run(2000);
    const before = a.mux.stats.packetsOut;
    world.run(world.now + 600_000);
    // a sign of life every 29 s, for the NATs between
    expect([near.closed, far.closed, a.mux.stats.packetsOut - before]).toEqual([false, false, 20]);
  });

  it('may be called from anywhere in a sink', () => {
    const { world, a, b } = pair(1, { delayMs: 10 });
    const near = new UtpEnd(a, 100_000);
    const far = new UtpEnd(b, 0);
    const { onData } = UtpEnd.prototype;
    far.onData = function (this: UtpEnd, bytes) {
      onData.call(this, bytes);
      this.conn!.close();
      this.conn!.close();
      this.conn!.send([bytes], 1);
    };
    dial(a, b, near, far);
    world.run(60_000);
    expect([near.closed, far.closed, near.fault]).toEqual([true, true, null]);
    expect(far.received).toBeLessThan(2000);
    expect([a.mux.stats.socketCount, b.mux.stats.socketCount]).toEqual([0, 0]);
  });
});

describe('the mux', () => {
  it('leaves what is not uTP to others', () => {
    const { machine, world } = lone();
    const query = new TextEncoder().encode('d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe');
    expect([isUtp(query), machine.mux.datagram(world.now, 0, query, '10.0.0.9', 1)]).toEqual([false, false]);
  });

  it('tries again when the system had no room', () => {
    const { world, a, b } = pair(1, { delayMs: 10 });
    const near = new UtpEnd(a, 300_000);
    const far = new UtpEnd(b, 0);
    const refuse = { onUtpSend: () => world.rng.below(3) > 0 };
    const { emit } = a.mux;
    a.mux.emit = (socket, bytes) => refuse.onUtpSend() && emit.call(a.mux, socket, bytes);
    dial(a, b, near, far);
    world.run(60_000, () => far.received === 300_000);
    expect([far.received, far.wrongAt, a.mux.stats.timeouts]).toEqual([300_000, -1, 0]);
  });

  it('keeps connections apart that share id and port', () => {
    const { machine, peer } = lone();
    const ends: UtpEnd[] = [];
    machine.accept = (conn: Conn) => {
      const end = new UtpEnd(machine, 0);
      end.carry(conn);
      ends.push(end);
    };
    const say = (ip: string, fields: Fields): void => machine.receive(packet(fields), ip);
    const ips = ['10.1.0.1', '10.1.0.2', '10.1.0.3'];
    for (const ip of ips) {
      say(ip, { type: PacketType.Syn, id: 1, seq: 0, ack: 0 });
      say(ip, { type: PacketType.Data, id: 2, seq: 1, ack: peer.last.seq - 1, payload: HELLO });
    }
    expect(ends.map((end) => end.received)).toEqual([68, 68, 68]);
    ends[1]!.conn!.close();
    machine.turn();
    for (const end of [ends[0]!, ends[2]!]) end.conn!.close();
    machine.turn();
    peer.machine.world.run(peer.machine.world.now + 100_000);
    expect(machine.mux.stats.socketCount).toBe(0);
  });
});
