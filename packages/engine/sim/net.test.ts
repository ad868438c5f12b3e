import { expect, test } from 'vitest';
import { equal } from '../src/base/bytes.ts';
import type { IoFault } from '../src/base/errors.ts';
import type { Conn, ConnSink } from '../src/base/ports.ts';
import { POISON } from './chunks.ts';
import type { NodeOptions, SimNode } from './node.ts';
import { World } from './world.ts';

/** Notes what happens to a connection and keeps the bytes. */
class Notes implements ConnSink {
  readonly world: World;
  conn: Conn | null = null;
  connectedAt = -1;
  closedAt = -1;
  fault: IoFault | null | undefined = undefined;
  bytes: number[] = [];
  received = 0;
  keep = true;
  sentCount = 0;
  lastAt = -1;
  lastView: Uint8Array | null = null;
  onSentNext: (() => void) | null = null;

  constructor(world: World) {
    this.world = world;
  }
  onConnected(): void {
    this.connectedAt = this.world.now;
  }
  onData(bytes: Uint8Array): void {
    this.received += bytes.length;
    this.lastAt = this.world.now;
    this.lastView = bytes;
    if (this.keep) for (const byte of bytes) this.bytes.push(byte);
  }
  onSent(): void {
    this.sentCount++;
    this.onSentNext?.();
  }
  onClosed(fault: IoFault | null): void {
    expect(this.closedAt).toBe(-1);
    this.closedAt = this.world.now;
    this.fault = fault;
  }
}

interface Pair {
  world: World;
  a: SimNode;
  b: SimNode;
  near: Notes;
  far: Notes;
}

function pair(seed: number, a: NodeOptions = {}, b: NodeOptions = {}, poison = true): Pair {
  const world = new World({ seed, poison });
  const made = { world, a: world.addNode(a), b: world.addNode(b), near: new Notes(world), far: new Notes(world) };
  made.a.boot();
  made.b.boot();
  listen(made.b, (conn) => {
    made.far.conn = conn;
    conn.sink = made.far;
  });
  return made;
}

function listen(node: SimNode, accept: (conn: Conn) => void, port = 6881): void {
  node.ports!.net.listen(
    { ip: '0.0.0.0', port },
    {
      onListening: () => {},
      onAccept: accept,
      onListenFault: (fault) => {
        throw new Error(fault.message);
      },
    },
  );
}

function connect(p: Pair): Conn {
  const conn = p.a.ports!.net.connect({ ip: p.b.host.ip, port: 6881 }, p.near);
  p.near.conn = conn;
  return conn;
}

test('bytes of random sends arrive once and in order, and borrowed memory is only read until onSent', () => {
  const p = pair(11, { upBps: 1e6, latencyMs: 3 }, { downBps: 3e6 });
  const conn = connect(p);
  p.world.run(50);
  const sent: number[] = [];
  let left = 200;
  let views: Uint8Array[] = [];
  const next = (): void => {
    for (const view of views) view.fill(0xee);
    if (left-- === 0) return;
    views = Array.from({ length: 1 + p.world.rng.below(5) }, () => {
      const view = new Uint8Array(1 + p.world.rng.below(p.world.rng.below(3) === 0 ? 40_000 : 30));
      p.world.rng.fill(view);
      return view;
    });
    for (const view of views) sent.push(...view);
    conn.send(views, views.length);
  };
  p.near.onSentNext = next;
  next();
  p.world.run(60_000);
  expect(p.near.sentCount).toBe(200);
  expect(sent.length).toBeGreaterThan(1_000_000);
  expect(equal(Uint8Array.from(p.far.bytes), Uint8Array.from(sent))).toBe(true);
  // who keeps a view past its return sees rubbish
  expect(p.far.lastView!.every((byte) => byte === POISON)).toBe(true);
});

test('a round trip takes the latencies, a send the rate', () => {
  const p = pair(12, { latencyMs: 30, upBps: 1e6 }, { latencyMs: 20 });
  const conn = connect(p);
  p.world.run(200);
  expect(p.near.connectedAt).toBe(100);
  const at = p.world.now;
  conn.send([new Uint8Array(100_000)], 1);
  p.world.run(1000);
  expect(p.far.received).toBe(100_000);
  expect(p.far.lastAt - at).toBeGreaterThan(149);
  expect(p.far.lastAt - at).toBeLessThan(151);
});

test('connections share an uplink evenly, and a downlink holds them to its rate', () => {
  for (const limit of ['up', 'down'] as const) {
    const world = new World({ seed: 13 });
    const a = world.addNode(limit === 'up' ? { upBps: 1e6 } : {});
    a.boot();
    const sinks: Notes[] = [];
    for (let i = 0; i < 4; i++) {
      const b = world.addNode(limit === 'down' ? { downBps: 250_000 } : {});
      b.boot();
      listen(b, (conn) => {
        const far = new Notes(world);
        far.keep = false;
        sinks.push(far);
        conn.sink = far;
      });
      const near = new Notes(world);
      const conn = a.ports!.net.connect({ ip: b.host.ip, port: 6881 }, near);
      near.onSentNext = (): void => conn.send([new Uint8Array(50_000)], 1);
      world.call(100, () => near.onSentNext!());
    }
    world.run(100);
    world.run(10_000);
    for (const sink of sinks) {
      expect(sink.received / 10).toBeGreaterThan(230_000);
      expect(sink.received / 10).toBeLessThan(270_000);
    }
  }
});

test('a paused reader stops the sender at the window, and nothing is lost', () => {
  const p = pair(14);
  p.far.keep = false;
  const conn = connect(p);
  p.world.run(50);
  p.far.conn!.pause();
  let sends = 0;
  p.near.onSentNext = (): void => {
    if (++sends < 100) conn.send([new Uint8Array(16_397)], 1);
  };
  p.near.onSentNext();
  p.world.run(5000);
  expect(p.far.received).toBe(0);
  expect(sends).toBeLessThan(20);
  p.far.conn!.resume();
  expect(p.far.received).toBe(0);
  p.world.run(5000);
  expect(p.far.received).toBe(16_397 * 99);
});

test('refused, dropped, unreachable, nobody there', () => {
  const world = new World({ seed: 15 });
  const a = world.addNode({ latencyMs: 10 });
  a.boot();
  const target = (reach: 'open' | 'dropped' | 'refused'): string => {
    const node = world.addNode({ reach, latencyMs: 10 });
    node.boot();
    if (reach !== 'open') listen(node, (conn) => conn.close());
    return node.host.ip;
  };
  const attempt = (ip: string): Notes => {
    const notes = new Notes(world);
    a.ports!.net.connect({ ip, port: 6881 }, notes);
    return notes;
  };
  const cases: [string, string, number][] = [
    [target('open'), 'ECONNREFUSED', 40],
    [target('refused'), 'ECONNREFUSED', 40],
    [target('dropped'), 'ETIMEDOUT', 15_000],
    ['9.9.9.9', 'ETIMEDOUT', 15_000],
  ];
  for (const [ip, code, afterMs] of cases) {
    const from = world.now;
    const notes = attempt(ip);
    world.run(130_000);
    expect([notes.fault?.code, notes.connectedAt]).toEqual([code, -1]);
    expect(notes.closedAt - from).toBeGreaterThanOrEqual(afterMs);
  }
  a.host.online = false;
  const notes = attempt(cases[0]![0]);
  world.run(10);
  expect(notes.fault?.code).toBe('ENETUNREACH');
});

test('close lets what has left arrive, ends both sides in order, and closes ours later', () => {
  const p = pair(16, { upBps: 1e6 });
  const conn = connect(p);
  p.world.run(50);
  conn.send([Uint8Array.from([1, 2, 3])], 1);
  p.world.run(0.1);
  conn.close();
  expect(p.near.closedAt).toBe(-1);
  p.world.run(100);
  expect([p.near.fault, p.far.fault]).toEqual([null, null]);
  expect(p.far.bytes).toEqual([1, 2, 3]);
  expect([p.a.host.conns.size, p.b.host.conns.size]).toEqual([0, 0]);
});

test('a killed process resets its connections; after a power cut nobody is told until it is up and asked', () => {
  const killed = pair(17);
  connect(killed);
  killed.world.run(50);
  killed.b.crash(false);
  killed.world.run(100);
  expect(killed.near.fault?.code).toBe('ECONNRESET');
  expect(killed.far.closedAt).toBe(-1);

  const cut = pair(18);
  const conn = connect(cut);
  cut.world.run(50);
  cut.b.crash(true);
  conn.send([new Uint8Array(1000)], 1);
  cut.world.run(60_000);
  expect(cut.near.closedAt).toBe(-1);
  cut.b.boot();
  cut.world.run(100);
  expect(cut.near.fault?.code).toBe('ECONNRESET');

  const never = pair(19);
  connect(never).close();
  never.world.run(50);
  expect(never.near.fault).toBe(null);
});

test('a partition holds bytes back and healing lets them go', () => {
  const p = pair(20);
  const conn = connect(p);
  p.world.run(50);
  p.b.host.group = 1;
  p.world.net.partitioned = true;
  conn.send([Uint8Array.from([5, 6])], 1);
  p.world.run(10_000);
  expect(p.far.received).toBe(0);
  p.world.net.partitioned = false;
  p.world.net.healed();
  p.world.run(100);
  expect(p.far.bytes).toEqual([5, 6]);
});

test('the same seed gives the same digest, another seed another', () => {
  const run = (seed: number): string => {
    const p = pair(seed, { upBps: 2e6 }, {}, false);
    p.far.keep = false;
    const conn = connect(p);
    p.near.onSentNext = (): void => {
      const view = new Uint8Array(1 + p.world.rng.below(5000));
      p.world.rng.fill(view);
      conn.send([view], 1);
    };
    p.world.run(50);
    p.near.onSentNext();
    p.world.run(2000);
    return p.world.digest();
  };
  expect(run(21)).toBe(run(21));
  expect(run(22)).not.toBe(run(21));
});
