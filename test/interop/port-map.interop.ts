/** Ports mapped by a real router's daemon, miniupnpd, and what comes in through it. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import type { Need } from './harness/available.ts';
import { CLIENT, CLIENT6, LABEL, NatRooms, OTHER, OUTER, ROUTER, type Talker } from './harness/nat-rooms.ts';
import { pause, until } from './harness/wait.ts';

const NEEDS: readonly Need[] = ['namespace', 'miniupnpd', 'nft'];
const BOTH = [`tcp 6881 ${CLIENT}:6881`, `udp 6881 ${CLIENT}:6881`];

interface State {
  readonly addresses: readonly { readonly ip: string; readonly port: number }[];
  readonly mappings: readonly {
    readonly protocol: string;
    readonly method: string;
    readonly gateway: string | null;
    readonly externalIp: string | null;
    readonly externalPort: number | null;
    readonly error: string | null;
  }[];
}

function state({ lines }: Talker): State | null {
  return (lines.at(-1) as unknown as State | undefined) ?? null;
}

/** Waits until the session says that both protocols are mapped. */
async function mapped(talker: Talker, rooms: NatRooms): Promise<State> {
  const isMapped = (): boolean => {
    const { mappings = [] } = state(talker) ?? {};
    return (
      mappings.length === 2 &&
      mappings.every(({ externalPort, externalIp }) => externalPort !== null && externalIp !== null)
    );
  };
  const detail = (): string => `${JSON.stringify(state(talker))} ${talker.program.tail()} ${rooms.tail()}`;
  await until('both ports are mapped', isMapped, { timeoutMs: 20_000, detail });
  return state(talker)!;
}

async function gone(rooms: NatRooms): Promise<void> {
  const detail = (): string => rooms.mappings().join();
  await until('nothing is mapped', () => rooms.mappings().length === 0, { timeoutMs: 5_000, detail });
}

describe('by a real miniupnpd', () => {
  for (const method of ['pcp', 'nat-pmp', 'upnp']) {
    interop(`${method}: mapped, reached from outside, unmapped on exit`, NEEDS, async (arena: Arena) => {
      const rooms = await NatRooms.make(arena);
      assert.equal(await rooms.knock(6881), '');
      const session = rooms.session({ port: 6881, portMap: [method] });
      const { mappings } = await mapped(session, rooms);
      for (const one of mappings) {
        assert.deepEqual(
          [one.method, one.gateway, one.externalIp, one.externalPort, one.error],
          [method, ROUTER, LABEL, 6881, null],
        );
      }
      assert.deepEqual(rooms.mappings(), BOTH);
      assert.equal(await rooms.knock(6881), 'tcp udp');
      assert.equal(await session.program.stop(), 0);
      assert.deepEqual(rooms.mappings(), []);
      assert.equal(await rooms.knock(6881), '');
    });
  }

  interop('a port that another machine has is not taken from it', NEEDS, async (arena: Arena) => {
    const rooms = await NatRooms.make(arena);
    for (const method of ['pcp', 'nat-pmp', 'upnp']) {
      const other = rooms.session({ port: 6881, portMap: [method], bind: [OTHER] });
      await mapped(other, rooms);
      const session = rooms.session({ port: 6881, portMap: [method], bind: [CLIENT] });
      const { mappings } = await mapped(session, rooms);
      const [tcp, udp] = mappings.map(({ externalPort }) => externalPort);
      assert.equal(tcp, udp);
      assert.notEqual(tcp, 6881);
      const ours = [`tcp ${tcp} ${CLIENT}:6881`, `udp ${tcp} ${CLIENT}:6881`];
      assert.deepEqual(rooms.mappings(), [...BOTH.map((text) => text.replace(CLIENT, OTHER)), ...ours].sort());
      assert.equal(await rooms.knock(tcp!), 'tcp udp');
      await Promise.all([session.program.stop(), other.program.stop()]);
      assert.deepEqual(rooms.mappings(), []);
    }
  });

  for (const [method, options, gateway] of [
    ['pcp', {}, /^fe80::/],
    // asked at the address that it answers a search from
    ['upnp', { natPmp: false }, /^2001:db8:99::1$/],
  ] as const) {
    interop(`IPv6: the firewall is opened by ${method}, and closed on exit`, NEEDS, async (arena: Arena) => {
      const rooms = await NatRooms.make(arena, { ipv6: true, ...options });
      assert.equal(await rooms.knock(6881, CLIENT6), '');
      const session = rooms.session({ port: 6881, portMap: [method], bind: [CLIENT6] });
      const { mappings } = await mapped(session, rooms);
      for (const one of mappings) {
        assert.deepEqual([one.method, one.externalIp, one.externalPort, one.error], [method, CLIENT6, 6881, null]);
        assert.match(one.gateway!, gateway);
      }
      assert.deepEqual(rooms.openings(), ['tcp 6881', 'udp 6881']);
      assert.equal(await rooms.knock(6881, CLIENT6), 'tcp udp');
      assert.equal(await session.program.stop(), 0);
      assert.deepEqual(rooms.openings(), []);
    });
  }

  interop('UPnP where the router knows nothing else', NEEDS, async (arena: Arena) => {
    const rooms = await NatRooms.make(arena, { natPmp: false });
    const session = rooms.session({ port: 6881 });
    const { mappings } = await mapped(session, rooms);
    assert.deepEqual(new Set(mappings.map(({ method }) => method)), new Set(['upnp']));
    assert.equal(await rooms.knock(6881), 'tcp udp');
    assert.equal(await session.program.stop(), 0);
    assert.deepEqual(rooms.mappings(), []);
  });

  interop(
    'renewed before its time is over; asked for again after the router was restarted',
    NEEDS,
    async (arena: Arena) => {
      const rooms = await NatRooms.make(arena, { leaseS: 10 });
      const session = rooms.session({ port: 6881, portMap: ['pcp'] });
      await mapped(session, rooms);
      // without a renewal they are gone by then
      for (let i = 0; i < 16; i++) {
        await pause(1000);
        assert.deepEqual(rooms.mappings(), BOTH, `after ${i + 1} s`);
      }
      await rooms.boot();
      const detail = (): string => `${JSON.stringify(state(session))} ${rooms.tail()}`;
      await until('it is mapped again', () => rooms.mappings().length === 2, { timeoutMs: 15_000, detail });
      assert.equal(await rooms.knock(6881), 'tcp udp');
      assert.equal(await session.program.stop(), 0);
      assert.deepEqual(rooms.mappings(), []);
    },
  );

  interop('a restart is heard of, not waited for', NEEDS, async (arena: Arena) => {
    const rooms = await NatRooms.make(arena);
    const session = rooms.session({ port: 6881, portMap: ['pcp'] });
    await mapped(session, rooms);
    // a router that is as young as its mappings has forgotten nothing
    await pause(6000);
    await rooms.boot();
    // the mapping would be renewed after half an hour
    await until('it is mapped again', () => rooms.mappings().length === 2, {
      timeoutMs: 20_000,
      detail: () => rooms.tail(),
    });
    await session.program.stop();
  });
});

interop('shoal seed is reached through a router, says so, and unmaps on SIGTERM', NEEDS, async (arena: Arena) => {
  const rooms = await NatRooms.make(arena);
  const torrent = arena.torrent();
  const folder = arena.makeFolder('copy');
  const finding = ['--no-dht', '--no-lsd', '--no-pex'];
  const seed = rooms.shoal(rooms.client, 'seed', torrent.path, torrent.payload.folder, '--port', '51413', ...finding);
  const line = await until('shoal says mapped', () => seed.lines.find(({ type }) => type === 'mapped'), {
    timeoutMs: 30_000,
    detail: () => `${JSON.stringify(seed.lines)} ${seed.program.tail()}`,
  });
  assert.deepEqual([line.host, line.port, line['method']], [LABEL, 51413, 'pcp']);
  const get = ['get', torrent.path, '-o', folder, '--state', arena.makeFolder('state')];
  const leech = rooms.shoal(rooms.outside, ...get, '--peer', `${OUTER}:51413`, '--no-port-map', ...finding);
  assert.equal(await leech.program.exited, 0, leech.program.tail());
  await arena.same(torrent, folder);
  assert.equal(await seed.program.stop('SIGTERM'), 0);
  await gone(rooms);
});

interop('--no-port-map asks for nothing; a port file is followed', NEEDS, async (arena: Arena) => {
  const rooms = await NatRooms.make(arena);
  const torrent = arena.torrent();
  const file = `${arena.makeFolder('port')}/forwarded_port`;
  writeFileSync(file, '40001\n');
  const args = ['seed', torrent.path, torrent.payload.folder, '--port-file', file, '--no-dht', '--no-lsd', '--no-pex'];
  const seed = rooms.shoal(rooms.client, ...args);
  const listens = async (port: number): Promise<void> => {
    const at = (): boolean => seed.lines.some((line) => line.type === 'listening' && line.port === port);
    const detail = (): string => `${JSON.stringify(seed.lines)} ${seed.program.tail()}`;
    await until(`it listens on ${port}`, at, { timeoutMs: 30_000, detail });
  };
  await listens(40_001);
  writeFileSync(file, 'no port at all\n');
  await pause(2500);
  writeFileSync(file, '40002');
  await listens(40_002);
  assert.deepEqual(rooms.mappings(), []);
  assert.equal(await seed.program.stop('SIGTERM'), 0);
  const plain = rooms.shoal(rooms.client, ...args.slice(0, 3), '--no-port-map', ...args.slice(5));
  await until('it listens', () => plain.lines.some(({ type }) => type === 'listening'), { timeoutMs: 30_000 });
  await pause(1500);
  assert.deepEqual(rooms.mappings(), []);
  assert.equal(await plain.program.stop('SIGTERM'), 0);
});
