import { expect, test } from 'vitest';
import type { Endpoint, NetInterface, UdpOptions, UdpSink, UdpSocket } from '../src/base/ports.ts';
import { Rng } from '../src/base/random.ts';
import { formatLsd } from '../src/discovery/lsd.ts';
import { LsdSockets } from '../src/session/lsd-sockets.ts';
import type { NodeOptions } from './node.ts';
import { World } from './world.ts';

const HASHES = Array.from({ length: 4 }, (_, i) => new Uint8Array(20).fill(i + 1));

/** Local discovery on a machine of the world, run by its loop as a session does. */
class Station {
  readonly lsd: LsdSockets;
  readonly heard: string[] = [];
  readonly now: () => number;

  constructor(world: World, seed: number, options: NodeOptions, port: number, bind: readonly string[] = ['0.0.0.0']) {
    const ports = world.addNode(options).boot();
    this.now = () => ports.clock.now();
    this.lsd = new LsdSockets(ports, bind, new Rng(Uint32Array.of(seed, seed, seed, seed)), {
      onLsdPeer: (infoHash, ip, from) => this.heard.push(`${infoHash[0]} ${ip}:${from}`),
      onLsdLog: () => {},
    });
    ports.loop.run = () => {
      this.lsd.tick(ports.clock.now());
      ports.loop.wakeAt(this.lsd.nextAt());
    };
    this.lsd.port = port;
    this.lsd.start(ports.clock.now());
    ports.loop.soon();
  }
  add(number: number): void {
    this.lsd.add(this.now(), HASHES[number]!);
    this.lsd.tick(this.now());
  }
}

test('two of a LAN find each other, each is told within seconds; others hear nothing', () => {
  const world = new World({ seed: 3 });
  const sentTo = new Set<string>();
  world.net.udp.tap = (_from, ip, port) => sentTo.add(`${ip}:${port}`);
  const lan: NodeOptions = { lan: 'home', nat: 'restricted' };
  const [a, b, c] = [
    new Station(world, 1, lan, 7001),
    new Station(world, 2, lan, 7002),
    new Station(world, 3, lan, 7003),
  ];
  const stranger = new Station(world, 4, { lan: 'office' }, 7004);
  stranger.add(0);
  a.add(0);
  c.add(1);
  world.run(10_000);
  b.add(0);
  b.add(2);
  world.run(10_000);
  const [ipA, ipB] = [a.lsd.addresses[0], b.lsd.addresses[0]];
  expect(new Set(a.heard)).toEqual(new Set([`1 ${ipB}:7002`]));
  // who was there first is heard with his next announce
  world.run(300_000);
  expect(new Set(b.heard)).toEqual(new Set([`1 ${ipA}:7001`]));
  expect([c.heard, stranger.heard]).toEqual([[], []]);
  expect([...sentTo]).toEqual(['239.192.152.143:6771']);
});

test('nothing is opened or sent without a torrent, without a port, or after the end', () => {
  const world = new World({ seed: 4 });
  const a = new Station(world, 1, { lan: 'home' }, 0);
  const b = new Station(world, 2, { lan: 'home' }, 7002);
  const { udp } = world.net;
  world.run(100_000);
  expect([udp.sentCount, a.lsd.addresses, b.lsd.addresses]).toEqual([0, [], []]);
  a.add(0);
  world.run(100_000);
  expect([udp.sentCount, a.lsd.addresses.length]).toEqual([0, 1]);
  a.lsd.port = 7001;
  a.lsd.tick(a.now());
  world.run(1000);
  expect(udp.sentCount).toBe(1);
  a.lsd.remove(HASHES[0]!);
  expect(a.lsd.addresses).toEqual([]);
  a.add(1);
  world.run(1000);
  expect(a.lsd.addresses.length).toBe(1);
  const before = udp.sentCount;
  a.lsd.stop();
  expect([a.lsd.addresses, a.lsd.nextAt()]).toEqual([[], Infinity]);
  world.run(1_000_000);
  expect(udp.sentCount).toBe(before);
});

/** A machine whose interfaces the test sets; notes what is opened. */
class Machine {
  interfaces: NetInterface[] = [];
  readonly opened: FakeSocket[] = [];
  readonly log: string[] = [];
  now = 0;
  readonly lsd: LsdSockets;

  constructor(bind: readonly string[]) {
    const unused = (): never => {
      throw new Error('unused');
    };
    const net = {
      listen: unused,
      connect: unused,
      resolve: unused,
      interfaces: () => this.interfaces,
      udp: (local: Endpoint, options: UdpOptions, sink: UdpSink) => {
        const socket = new FakeSocket(local, options, sink);
        this.opened.push(socket);
        return socket;
      },
    };
    const clock = { now: () => this.now, wall: () => 0 };
    const loop = { run: null, soon: () => {}, wakeAt: () => {} };
    this.lsd = new LsdSockets({ net, clock, loop }, bind, new Rng(Uint32Array.of(1, 2, 3, 4)), {
      onLsdPeer: (infoHash, ip, port) => this.log.push(`peer ${infoHash[0]} ${ip} ${port}`),
      onLsdLog: (line) => this.log.push(line),
    });
    this.lsd.port = 6881;
    this.lsd.add(0, HASHES[0]!);
  }
  get open(): string[] {
    return this.opened.filter(({ closed }) => !closed).map(({ local }) => local.ip);
  }
  /** Lets a session of this `bind` start on these interfaces. */
  static on(bind: readonly string[], interfaces: readonly string[]): Machine {
    const machine = new Machine(bind);
    machine.interfaces = interfaces.map(at);
    machine.lsd.start(0);
    return machine;
  }
}

class FakeSocket implements UdpSocket {
  readonly local: Endpoint;
  readonly options: UdpOptions;
  readonly sink: UdpSink;
  closed = false;
  sent: string[] = [];

  constructor(local: Endpoint, options: UdpOptions, sink: UdpSink) {
    this.local = local;
    this.options = options;
    this.sink = sink;
  }
  send(_bytes: Uint8Array, ip: string, port: number): boolean {
    this.sent.push(`${ip} ${port}`);
    return false;
  }
  close(): void {
    this.closed = true;
  }
  fail(): void {
    this.closed = true;
    this.sink.onUdpFault({ code: 'ENODEV', message: 'no such device' });
  }
}

/** "name ip/prefix" */
function at(text: string): NetInterface {
  const [name, address] = text.split(' ') as [string, string];
  const [ip, prefix] = address.split('/') as [string, string];
  return { name, ip, prefix: Number(prefix), loopback: name === 'lo' };
}

const HERE = [
  'lo 127.0.0.1/8',
  'lo ::1/128',
  'eth0 192.168.7.5/24',
  'eth0 192.168.7.6/24',
  'eth0 10.1.0.5/16',
  'eth0 fe80::5/64',
  'eth0 fd00::5/64',
  'eth0 2001:db8::5/64',
  'wlan0 192.168.8.9/20',
  'wlan0 fe80::9/64',
];

test('which interfaces the bind list means', () => {
  const v4 = ['192.168.7.5', '10.1.0.5', '192.168.8.9'];
  expect(Machine.on(['0.0.0.0'], HERE).open).toEqual(v4);
  expect(Machine.on(['::'], HERE).open).toEqual(['fd00::5']);
  expect(Machine.on(['0.0.0.0', '::'], HERE).open.toSorted()).toEqual([...v4, 'fd00::5'].toSorted());
  expect(Machine.on(['192.168.7.6', '127.0.0.1'], HERE).open).toEqual(['192.168.7.6']);
  expect(Machine.on(['2001:db8::5'], HERE).open).toEqual(['2001:db8::5']);
  expect(Machine.on(['192.168.7.77'], HERE).open).toEqual([]);
  expect(Machine.on(['127.0.0.1'], HERE).open).toEqual(['127.0.0.1']);
  expect(Machine.on(['127.0.0.1', '::1'], HERE).open).toEqual(['127.0.0.1', '::1']);
  expect(Machine.on(['127.3.4.5'], HERE).open).toEqual(['127.3.4.5']);
  const many = Array.from({ length: 40 }, (_, i) => `if${i} 10.0.${i}.1/24`);
  expect(Machine.on(['0.0.0.0'], many).open.length).toBe(16);
  for (const { local, options } of Machine.on(['0.0.0.0', '::'], HERE).opened) {
    expect(local.port).toBe(6771);
    expect(options).toMatchObject({
      shared: true,
      group: local.ip.includes(':') ? 'ff15::efc0:988f' : '239.192.152.143',
    });
  }
});

test('follows interfaces that come and go, and leaves alone those that fail', () => {
  const machine = Machine.on(['0.0.0.0', '::'], ['eth0 192.168.7.5/24', 'tun0 10.8.0.2/24', 'eth0 fd00::5/64']);
  const [eth, tun, six] = machine.opened as [FakeSocket, FakeSocket, FakeSocket];
  tun.fail();
  expect(machine.lsd.nextAt()).toBe(60_000);
  for (const socket of [eth, six]) socket.sink.onUdpBound(socket.local);
  machine.lsd.tick(0);
  expect([eth.sent, six.sent]).toEqual([['239.192.152.143 6771'], ['ff15::efc0:988f 6771']]);
  expect(machine.log).toEqual(['lsd: not on 10.8.0.2: no such device']);
  machine.interfaces = ['wlan0 192.168.8.9/24', 'tun0 10.8.0.2/24', 'eth0 fd00::5/64'].map(at);
  machine.now = 60_000;
  machine.lsd.tick(machine.now);
  expect(machine.open).toEqual(['fd00::5', '192.168.8.9']);
  const wlan = machine.opened[3]!;
  wlan.sink.onUdpBound(wlan.local);
  machine.now += 2000;
  machine.lsd.tick(machine.now);
  expect(wlan.sent.length).toBe(1);
  for (machine.now = 120_000; machine.now <= 700_000; machine.now += 60_000) machine.lsd.tick(machine.now);
  expect(machine.opened.slice(4).map(({ local }) => local.ip)).toEqual(['10.8.0.2']);
  machine.opened[4]!.fail();
  expect(machine.log.length).toBe(1);
});

test('a sender counts where it is of the network', () => {
  const machine = Machine.on(['0.0.0.0', '::'], ['eth0 192.168.16.5/20', 'eth1 10.0.0.1/8', 'eth0 fd00::5/64']);
  const [eth, , six] = machine.opened as [FakeSocket, FakeSocket, FakeSocket];
  const hear = (socket: FakeSocket, ip: string): boolean => {
    const before = machine.log.length;
    machine.now += 1000;
    socket.sink.onDatagram(formatLsd(4, 7000, ['01'.repeat(20)], 'x'), ip, 6771);
    return machine.log.length > before;
  };
  expect(
    ['192.168.16.5', '192.168.31.255', '192.168.32.1', '10.0.0.7', '8.8.8.8', 'fd00::6'].map((ip) => hear(eth, ip)),
  ).toEqual([true, true, false, false, false, false]);
  expect(['fd00::6', '2001:db8::1', 'fe80::6', '192.168.16.5', ''].map((ip) => hear(six, ip))).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
});
