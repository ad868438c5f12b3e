/** How a session has its port mapped, and what it tells others meanwhile, in virtual time. */

import { describe, expect, test } from 'vitest';
import { readU16, writeU16, writeU32 } from '../src/base/bytes.ts';
import type { UdpSocket } from '../src/base/ports.ts';
import { placesOf } from '../src/session/port-mapping.ts';
import type { SimNode } from './node.ts';
import { SimSession } from './sim-session.ts';
import { type Announce, SimTracker } from './tracker.ts';
import { World } from './world.ts';

const ROUTER = '10.0.0.1';

/** NAT-PMP as home routers and VPN gateways speak it. */
class Router {
  /** What it gives for every port that is asked for; 0: that port. */
  external = 0;
  /** It names no internal port, and forwards the external one as it is. */
  whole = false;
  isDeaf = false;
  readonly asked: string[] = [];
  readonly node: SimNode;
  #socket: UdpSocket;

  constructor(world: World) {
    this.node = world.addNode({ ip: ROUTER, lan: 'home' });
    const options = { group: null, shared: false, bufferBytes: 0 };
    this.#socket = this.node.boot().net.udp({ ip: '0.0.0.0', port: 5351 }, options, {
      onUdpBound: () => {},
      onUdpFault: () => {},
      onDatagram: (bytes, ip, port) => {
        const reply = this.#answer(bytes);
        if (!this.isDeaf) this.#socket.send(reply, ip, port);
      },
    });
  }

  #answer(bytes: Uint8Array): Uint8Array {
    const reply = new Uint8Array(bytes[0] === 0 && bytes[1] === 0 ? 12 : bytes[0] === 0 ? 16 : 8);
    reply[1] = 128 + bytes[1]!;
    writeU32(reply, 4, Math.floor(this.node.world.now / 1000));
    if (bytes[0] !== 0) writeU16(reply, 2, 1);
    else if (bytes[1] === 0) reply.set([203, 0, 113, 7], 8);
    else {
      const port = readU16(bytes, 4);
      const isEnd = bytes.subarray(8).every((byte) => byte === 0);
      this.asked.push(`${isEnd ? 'unmap' : 'map'} ${bytes[1] === 1 ? 'udp' : 'tcp'} ${port}`);
      writeU16(reply, 8, this.whole ? 0 : port);
      writeU16(reply, 10, isEnd ? 0 : this.external || readU16(bytes, 6));
      if (!isEnd) writeU32(reply, 12, 3600);
    }
    return reply;
  }
}

interface Scene {
  readonly world: World;
  readonly router: Router;
  readonly session: SimSession;
  /** Ports that the tracker was told, in order, without what was said twice. */
  readonly told: number[];
}

function scene(set: (router: Router) => void = () => {}): Scene {
  const world = new World({ seed: 77 });
  const tracker = new SimTracker(world);
  const torrent = world.makeTorrent({ trackers: [tracker.url] });
  const told: number[] = [];
  tracker.minIntervalS = 1;
  tracker.onAnnounce = ({ port }: Announce) => {
    if (told.at(-1) !== port) told.push(port);
  };
  const router = new Router(world);
  set(router);
  const node = world.addNode({ ip: '10.0.0.2', lan: 'home', gateway: ROUTER });
  const session = new SimSession(node, torrent, { portMap: ['pcp', 'nat-pmp'] });
  return { world, router, session, told };
}

describe('a session behind a router', () => {
  test('has its port mapped once it listens, and gives it back', () => {
    const { world, router, session, told } = scene();
    world.run(10_000);
    expect(router.asked).toEqual(['map tcp 6881', 'map udp 6881']);
    expect(session.core.portMapping!.status().map(({ externalPort }) => externalPort)).toEqual([6881, 6881]);
    expect([told, session.core.portTowards(4)]).toEqual([[6881], 6881]);
    let isDone = false;
    session.core.unmap(() => {
      isDone = true;
    });
    world.run(1000);
    expect([isDone, router.asked.slice(2)]).toEqual([true, ['unmap tcp 6881', 'unmap udp 6881']]);
  });

  test('tells trackers, and peers outside, the port that the router gave', () => {
    const { world, router, session, told } = scene((each) => {
      each.external = 50_000;
    });
    world.run(60_000);
    expect(told.at(-1)).toBe(50_000);
    const { core } = session;
    expect([core.port, core.portTowards(4), core.portTowards(6)]).toEqual([6881, 50_000, 6881]);
    expect([core.portFor('203.0.113.9'), core.portFor('10.0.0.9'), core.portFor('2001:db8::1')]).toEqual([
      50_000, 6881, 6881,
    ]);
    // the router gives another one when it is asked again, and then none
    router.external = 50_001;
    world.run(1_900_000);
    expect([told.at(-1), core.portTowards(4)]).toEqual([50_001, 50_001]);
    router.isDeaf = true;
    world.run(3_700_000);
    expect([told.at(-1), core.portTowards(4)]).toEqual([6881, 6881]);
  });

  test('listens where a gateway forwards to, when that cannot be chosen', () => {
    const { world, router, session, told } = scene((each) => {
      each.external = 41_000;
      each.whole = true;
    });
    world.run(30_000);
    expect([session.core.port, told.at(-1)]).toEqual([41_000, 41_000]);
    router.external = 42_000;
    world.run(1_900_000);
    expect([session.core.port, told.at(-1)]).toEqual([42_000, 42_000]);
  });

  test('follows its own port when that is changed', () => {
    const { world, router, session, told } = scene();
    world.run(10_000);
    session.core.setPort(7000);
    world.run(10_000);
    expect(router.asked.slice(2)).toEqual(['unmap tcp 6881', 'unmap udp 6881', 'map tcp 7000', 'map udp 7000']);
    // as soon as the tracker lets
    world.run(60_000);
    expect(told).toEqual([6881, 7000]);
  });

  test('its end does not wait for a router that has gone', () => {
    const { world, router, session } = scene();
    world.run(10_000);
    router.isDeaf = true;
    const beganMs = world.now;
    let tookMs = -1;
    session.core.unmap(() => {
      tookMs = world.now - beganMs;
    });
    world.run(10_000);
    expect(tookMs).toBeGreaterThan(1000);
    expect(tookMs).toBeLessThan(2000);
  });
});

describe('which router is asked', () => {
  const at = (name: string, ip: string, prefix = 24, loopback = false) => ({ name, ip, prefix, loopback });
  const interfaces = [
    at('lo', '127.0.0.1', 8, true),
    at('lo', '10.77.0.1', 8, true),
    at('eth0', '192.168.1.5'),
    at('eth0', '2001:db8::5', 64),
    at('eth0', 'fe80::5', 64),
    at('tun0', '10.2.0.2', 32),
    at('wan0', '203.0.113.9'),
  ];
  const gateways = [
    { ip: '192.168.1.254', interfaceName: 'eth0' },
    { ip: 'fe80::1%eth0', interfaceName: 'eth0' },
  ];
  const places = (bind: string[], ways = gateways): string[] => {
    return [...placesOf(bind, interfaces, ways).values()].map(({ local, gateway }) => `${local} > ${gateway}`);
  };

  test('the preferred one, by the address that faces it', () => {
    expect(places(['0.0.0.0', '::'])).toEqual(['192.168.1.5 > 192.168.1.254', '2001:db8::5 > fe80::1%eth0']);
    expect(places(['192.168.1.5'])).toEqual(['192.168.1.5 > 192.168.1.254']);
  });

  test('none from loopback, nor where the address is public or not ours', () => {
    expect(places(['127.0.0.1', '10.77.0.1', '::1', '203.0.113.9', '192.168.1.6'])).toEqual([]);
  });

  test('the gateway of a VPN by a guess, and no other one', () => {
    expect(places(['10.2.0.2'])).toEqual(['10.2.0.2 > 10.2.0.1']);
  });

  test('the first address of private networks where the system names no router', () => {
    expect(places(['0.0.0.0', '::'], [])).toEqual(['192.168.1.5 > 192.168.1.1', '10.2.0.2 > 10.2.0.1']);
  });
});
