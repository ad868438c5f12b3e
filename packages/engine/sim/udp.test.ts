import { expect, test } from 'vitest';
import type { IoFault } from '../src/base/errors.ts';
import type { Endpoint, UdpOptions, UdpSink, UdpSocket } from '../src/base/ports.ts';
import { POISON } from './chunks.ts';
import type { NatKind } from './nat.ts';
import type { NodeOptions, SimNode } from './node.ts';
import { World } from './world.ts';

interface Got {
  readonly at: number;
  readonly from: string;
  readonly length: number;
  readonly first: number;
}

class Ear implements UdpSink {
  readonly node: SimNode;
  readonly socket: UdpSocket;
  readonly got: Got[] = [];
  told: Endpoint | IoFault | null = null;
  lastView: Uint8Array | null = null;
  /** Answers each datagram with one byte. */
  echoes = false;

  constructor(node: SimNode, local: Endpoint, options: Partial<UdpOptions> = {}) {
    this.node = node;
    this.socket = node.ports!.net.udp(local, { group: null, shared: false, bufferBytes: 0, ...options }, this);
    expect(this.told).toBe(null);
  }
  onUdpBound(local: Endpoint): void {
    this.told = local;
  }
  onDatagram(bytes: Uint8Array, ip: string, port: number): void {
    this.got.push({ at: this.node.world.now, from: `${ip}:${port}`, length: bytes.length, first: bytes[0] ?? -1 });
    this.lastView = bytes;
    if (this.echoes) this.socket.send(Uint8Array.of(bytes[0]!), ip, port);
  }
  onUdpFault(fault: IoFault): void {
    this.told = fault;
  }
  get port(): number {
    return (this.told as Endpoint).port;
  }
  /** First bytes of what came. */
  get firsts(): number[] {
    return this.got.map(({ first }) => first);
  }
}

function ear(world: World, options: NodeOptions = {}, port = 0, udp: Partial<UdpOptions> = {}): Ear {
  const node = world.addNode(options);
  node.boot();
  const made = new Ear(node, { ip: '0.0.0.0', port }, udp);
  world.run(1);
  return made;
}

function say(from: Ear, to: Ear, first: number, length = 1): boolean {
  return from.socket.send(new Uint8Array(length).fill(first), to.node.host.ip, to.port);
}

test('a datagram takes the latency of both sides, and is lent until return', () => {
  const world = new World({ seed: 1, poison: true });
  const a = ear(world, { latencyMs: 10 });
  const b = ear(world, { latencyMs: 25 }, 6881);
  const at = world.now;
  expect(say(a, b, 7, 100)).toBe(true);
  expect(b.got).toEqual([]);
  world.run(100);
  expect(b.got).toEqual([{ at: at + 35, from: `${a.node.host.ip}:${a.port}`, length: 100, first: 7 }]);
  expect(b.lastView![0]).toBe(POISON);
  expect(b.told).toEqual({ ip: '0.0.0.0', port: 6881 });
});

test('taken ports, foreign addresses, sockets not bound or closed, dead processes', () => {
  const world = new World({ seed: 2 });
  const a = ear(world, {}, 6881);
  const fault = (local: Endpoint, options: Partial<UdpOptions> = {}): string => {
    const other = new Ear(a.node, local, options);
    expect(other.socket.send(new Uint8Array(1), a.node.host.ip, 6881)).toBe(false);
    world.run(1);
    return (other.told as IoFault).code ?? 'bound';
  };
  expect(fault({ ip: '0.0.0.0', port: 6881 })).toBe('EADDRINUSE');
  expect(fault({ ip: '0.0.0.0', port: 6881 }, { shared: true })).toBe('EADDRINUSE');
  expect(fault({ ip: '9.9.9.9', port: 6882 })).toBe('EADDRNOTAVAIL');
  expect(fault({ ip: '0.0.0.0', port: 6771 }, { shared: true })).toBe('bound');
  expect(fault({ ip: '0.0.0.0', port: 6771 }, { shared: true })).toBe('bound');
  const b = ear(world);
  say(b, a, 1);
  a.socket.close();
  world.run(100);
  expect(a.got).toEqual([]);
  expect(a.socket.send(new Uint8Array(1), b.node.host.ip, b.port)).toBe(false);
  expect(fault({ ip: '0.0.0.0', port: 6881 })).toBe('bound');
  a.node.crash(false);
  a.node.boot();
  const again = new Ear(a.node, { ip: '0.0.0.0', port: 6881 });
  world.run(1);
  say(b, again, 2);
  world.run(100);
  expect(again.firsts).toEqual([2]);
});

test('loss, doubles, disorder and size, the same for one seed', () => {
  const run = (seed: number): { firsts: number[]; digest: string; big: number } => {
    const world = new World({ seed });
    const a = ear(world, { udp: { loss: 0.1, jitterMs: 20 } });
    const b = ear(world, { udp: { duplicate: 0.1, mtuBytes: 1280 } });
    for (let i = 0; i < 200; i++) {
      say(a, b, i);
      world.run(1);
    }
    world.run(1000);
    const { firsts } = b;
    say(b, a, 1, 1280 - 28 + 1);
    say(a, b, 1, 1280 - 28 + 1);
    world.run(1000);
    return { firsts, digest: world.digest(), big: a.got.length + b.got.length - firsts.length };
  };
  const one = run(5);
  expect(run(5)).toEqual(one);
  expect(run(6).digest).not.toBe(one.digest);
  expect(one.big).toBe(0);
  const distinct = new Set(one.firsts);
  expect(distinct.size).toBeGreaterThan(150);
  expect(distinct.size).toBeLessThan(200);
  expect(one.firsts.length).toBeGreaterThan(distinct.size);
  expect(one.firsts.some((first, i) => i > 0 && first < one.firsts[i - 1]!)).toBe(true);
});

test('a link carries its rate, makes a queue and drops what does not fit', () => {
  const world = new World({ seed: 7 });
  const a = ear(world, { upBps: 102_800, latencyMs: 0, udp: { queueMs: 100 } });
  const b = ear(world, { latencyMs: 0 });
  const at = world.now;
  for (let i = 0; i < 50; i++) say(a, b, i, 1000);
  world.run(1000);
  // 10 ms each; the last that is let in waits 100 ms
  expect(b.got.length).toBe(11);
  for (const [i, { at: when }] of b.got.entries()) expect(when - at).toBeCloseTo(10 * (i + 1), 1);
  const c = ear(world, { downBps: 102_800, latencyMs: 0, udp: { queueMs: 100 } });
  for (let i = 0; i < 50; i++) say(b, c, i, 1000);
  world.run(1000);
  expect(c.got.length).toBe(11);
});

test('networks that are off or apart', () => {
  const world = new World({ seed: 8 });
  const a = ear(world);
  const b = ear(world);
  b.node.host.online = false;
  expect(say(a, b, 1)).toBe(true);
  expect(say(b, a, 1)).toBe(false);
  world.run(100);
  b.node.host.online = true;
  b.node.host.group = 1;
  world.net.partitioned = true;
  say(a, b, 2);
  world.run(100);
  world.net.partitioned = false;
  say(a, b, 3);
  world.run(100);
  b.node.crash(true);
  say(a, b, 4);
  world.run(100);
  expect(b.firsts).toEqual([3]);
  expect(a.socket.send(new Uint8Array(1), '8.8.8.8', 53)).toBe(true);
});

test('what gets through which translation', () => {
  const through = (kind: NatKind): string => {
    const world = new World({ seed: 9 });
    const inside = ear(world, { nat: kind }, 6881);
    const friend = ear(world);
    const friendToo = new Ear(friend.node, { ip: '0.0.0.0', port: 0 });
    const stranger = ear(world);
    let letters = '';
    const knock = (from: Ear, port: number, letter: string): void => {
      const before = inside.got.length;
      from.socket.send(Uint8Array.of(1), inside.node.host.ip, port);
      world.run(100);
      if (inside.got.length > before) letters += letter;
    };
    knock(stranger, 6881, 'i');
    say(inside, friend, 2);
    world.run(100);
    const outer = Number(friend.got[0]!.from.split(':')[1]);
    expect(outer === 6881).toBe(kind === 'none');
    knock(friend, outer, 'f');
    knock(friendToo, outer, 'p');
    knock(stranger, outer, 's');
    say(inside, stranger, 3);
    world.run(100);
    if (stranger.got[0]!.from === friend.got[0]!.from) letters += '=';
    world.run(59_000);
    say(inside, friend, 4);
    world.run(59_000);
    knock(friend, outer, 'r');
    world.run(3_000);
    knock(friend, outer, 't');
    return letters;
  };
  // the port inside, the one sent to, another port of it, a stranger, same port for all, still there, unused too long
  expect(through('none')).toBe('ifps=rt');
  expect(through('cone')).toBe('fps=r');
  expect(through('restricted')).toBe('f=r');
  expect(through('symmetric')).toBe('fr');
});

test('two behind translations meet by sending to each other at once, unless the port changes', () => {
  const meet = (one: NatKind, two: NatKind): boolean => {
    const world = new World({ seed: 10 });
    const a = ear(world, { nat: one });
    const b = ear(world, { nat: two });
    const helper = ear(world);
    say(a, helper, 1);
    say(b, helper, 1);
    world.run(100);
    const [atA, atB] = helper.got.map(({ from }) => Number(from.split(':')[1]));
    for (let i = 0; i < 3; i++) {
      a.socket.send(Uint8Array.of(2), b.node.host.ip, atB!);
      b.socket.send(Uint8Array.of(2), a.node.host.ip, atA!);
      world.run(100);
    }
    return a.got.length > 0 && b.got.length > 0;
  };
  expect(meet('restricted', 'restricted')).toBe(true);
  expect(meet('cone', 'restricted')).toBe(true);
  // only one learns the other's port
  expect(meet('restricted', 'symmetric')).toBe(false);
  expect(meet('symmetric', 'symmetric')).toBe(false);
});

test('a LAN: multicast to the members of the group alone, no translation between them', () => {
  const world = new World({ seed: 11 });
  const group = '239.192.152.143';
  const lan = { lan: 'home', nat: 'symmetric' as const };
  const options = { group, shared: true };
  const [a, b, c] = [ear(world, lan, 6771, options), ear(world, lan, 6771, options), ear(world, lan, 6771)];
  const outside = ear(world, { lan: 'other' }, 6771, options);
  const alone = ear(world, {}, 6771, options);
  const twin = new Ear(a!.node, { ip: '0.0.0.0', port: 6771 }, options);
  world.run(1);
  const at = world.now;
  expect(a!.socket.send(Uint8Array.of(9), group, 6771)).toBe(true);
  world.run(10);
  const from = `${a!.node.host.ip}:6771`;
  expect(b!.got).toEqual([{ at: at + 0.5, from, length: 1, first: 9 }]);
  // its own, too, and the other program's on its machine
  expect([a!.firsts, twin.firsts]).toEqual([[9], [9]]);
  for (const other of [c!, outside, alone]) expect(other.got).toEqual([]);
  const plain = new Ear(b!.node, { ip: '0.0.0.0', port: 5000 });
  world.run(1);
  say(a!, plain, 3);
  world.run(10);
  expect(plain.got).toMatchObject([{ from, first: 3 }]);
  expect(a!.node.ports!.net.interfaces()[1]).toEqual({
    name: 'eth0',
    ip: a!.node.host.ip,
    prefix: 24,
    loopback: false,
  });
  expect(b!.node.host.ip.split('.').slice(0, 3)).toEqual(a!.node.host.ip.split('.').slice(0, 3));
});

test('a second address for IPv6, which sockets of its own have', () => {
  const world = new World({ seed: 12 });
  const a = ear(world, { ip6: '2001:db8::1' }, 6881);
  const six = new Ear(a.node, { ip: '::', port: 6881 });
  const b = ear(world, { ip6: '2001:db8::2', nat: 'symmetric' });
  const from = new Ear(b.node, { ip: '2001:db8::2', port: 7000 });
  world.run(1);
  expect(from.socket.send(Uint8Array.of(1), '2001:db8::1', 6881)).toBe(true);
  expect(from.socket.send(Uint8Array.of(1), a.node.host.ip, 6881)).toBe(false);
  world.run(100);
  expect(six.got).toMatchObject([{ from: '2001:db8::2:7000' }]);
  expect(a.got).toEqual([]);
});

test('a hundred thousand datagrams make little work', () => {
  const world = new World({ seed: 13 });
  const ears = Array.from({ length: 50 }, (_, i) =>
    ear(world, { udp: { loss: 0.01 }, nat: i % 2 ? 'restricted' : 'none' }),
  );
  for (const one of ears) one.echoes = true;
  let limit = 100_000;
  world.net.udp.tap = () => {
    if (--limit === 0) for (const one of ears) one.echoes = false;
  };
  for (let round = 0; limit > 0; round++) {
    for (const [i, one] of ears.entries()) say(one, ears[(i + 1 + round) % 50]!, round);
    world.run(200);
  }
  expect(world.net.udp.sentCount).toBeGreaterThanOrEqual(100_000);
  expect(world.net.udp.deliveredCount + world.net.udp.droppedCount).toBe(world.net.udp.sentCount);
});
