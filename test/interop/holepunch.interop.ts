/** Two behind NATs of real namespaces, brought together by a third that both are connected to (BEP 55). */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import type { Need } from './harness/available.ts';
import {
  type NatPorts,
  OUTER_ONE,
  OUTER_OTHER,
  type PunchLine,
  PunchRooms,
  RELAY,
  type Talker,
} from './harness/punch-rooms.ts';
import type { Room } from './harness/rooms.ts';
import type { MadeTorrent } from './harness/torrent.ts';
import { pause, until } from './harness/wait.ts';

const NEEDS: readonly Need[] = ['namespace', 'nft'];

type Teller = Talker<PunchLine>;

interface Meeting {
  readonly torrent: MadeTorrent;
  readonly rooms: PunchRooms;
  readonly relay: Teller;
  readonly one: Teller;
  readonly other: Teller;
  /** Where the other puts what it gets. */
  readonly folder: string;
}

/** Who plays a part. */
interface Player {
  /** Default: a session of the library. */
  readonly program?: 'libtorrent';
  readonly transport?: 'tcp' | 'utp';
  /** False: is told of nobody. */
  readonly pex?: boolean;
}

interface MeetingOptions {
  /** False: no UDP gets to the relay. */
  readonly udp?: boolean;
  readonly ports: NatPorts;
  readonly relay?: Player;
  readonly one?: Player;
  readonly other?: Player;
}

/** The one at home behind the first NAT has the content, the relay wants none of it, the other knows the relay alone. */
async function meet(arena: Arena, options: MeetingOptions): Promise<Meeting> {
  const torrent = arena.torrent();
  const rooms = await PunchRooms.make(arena, options.ports);
  if (options.udp === false) rooms.keepUdpOut();
  const folder = arena.makeFolder('other');
  const start = (room: Room, player: Player = {}, ip: string, into: string, peers: string[]): Teller => {
    const { program, ...how } = player;
    const wants = room !== rooms.relay;
    if (program === 'libtorrent') {
      const utp = how.transport === 'utp';
      const request = { torrent: torrent.path, folder: into, ip, port: 6881, utp, pex: how.pex ?? true, wants, peers };
      return rooms.libtorrent(room, request);
    }
    const existing = into === torrent.payload.folder ? 'trust' : 'check';
    const add = { folder: into, peers, existing, ...(wants ? {} : { select: [] }) };
    return rooms.session(room, { options: { bind: [ip], ...how }, torrent: torrent.path, add });
  };
  const relay = start(rooms.relay, options.relay, RELAY, arena.makeFolder('relay'), []);
  await until('the relay is there', () => last(relay)?.state === 'seeding', { timeoutMs: 10_000 });
  const one = start(rooms.one, options.one, '0.0.0.0', torrent.payload.folder, [`${RELAY}:6881`]);
  const other = start(rooms.other, options.other, '0.0.0.0', folder, [`${RELAY}:6881`]);
  await until('both are with the relay', () => last(relay)?.peers.length === 2, { timeoutMs: 15_000 });
  return { torrent, rooms, relay, one, other, folder };
}

function last({ lines }: Teller): PunchLine | undefined {
  return lines.at(-1);
}

/** When, of its own time, it was first connected there. */
function sinceMs({ lines }: Teller, ip: string): number | undefined {
  return lines.find(({ peers }) => peers.some((peer) => peer.includes(` ${ip}:`)))?.ms;
}

/** The transfer, and that it went straight from one to the other. */
async function gets(arena: Arena, name: string, options: MeetingOptions): Promise<void> {
  const { torrent, relay, one, other, folder } = await meet(arena, options);
  const detail = (): string => JSON.stringify([last(relay), last(one), last(other)]);
  const connected = (): number | undefined => sinceMs(other, OUTER_ONE);
  const ms = await until('they are connected', connected, { timeoutMs: 60_000, detail });
  await until('it has all', () => last(other)?.state === 'seeding', { timeoutMs: 60_000, detail });
  await arena.same(torrent, folder);
  const way = other.lines.flatMap(({ peers }) => peers).find((peer) => peer.includes(OUTER_ONE));
  console.log(`${name}: connected after ${ms} ms, all there after ${last(other)!.ms} ms, by ${way}`);
  for (const { lines } of [one, other]) {
    for (const { peers } of lines) {
      const direct = peers.filter((peer) => !peer.includes(RELAY));
      assert.ok(direct.length <= 1, `one connection is enough: ${direct}`);
      assert.ok(direct.join().startsWith(direct.length === 0 ? '' : 'utp '), direct.join());
    }
  }
  assert.deepEqual([last(relay)!.bytesDone, last(relay)!.uploaded], [0, 0]);
}

describe('two behind NATs', () => {
  const utp = { transport: 'utp' } as const;
  const libtorrent = { program: 'libtorrent', ...utp } as const;
  const WITH: readonly Need[] = [...NEEDS, 'libtorrent'];

  // those that take longest first: three run at a time
  interop('control: through a relay without holepunching they stay apart', NEEDS, async (arena) => {
    const meeting = await meet(arena, {
      ports: 'kept',
      udp: false,
      relay: { transport: 'tcp' },
      one: { pex: false },
    });
    const { relay, one, other } = meeting;
    const told = (): boolean => (last(other)?.known ?? 0) > 1;
    await until('it was told of the one', told, { timeoutMs: 10_000, detail: () => JSON.stringify(last(other)) });
    // with one they are connected after 2.5 s
    await pause(4500);
    assert.deepEqual([sinceMs(one, OUTER_OTHER), sinceMs(other, OUTER_ONE)], [undefined, undefined]);
    assert.equal(last(other)!.bytesDone, 0);
    assert.equal(last(relay)!.peers.length, 2);
  });

  interop('from libtorrent, which is told to dial', WITH, async (arena) => {
    await gets(arena, 'from libtorrent', { ports: 'moved', one: { ...libtorrent, pex: false }, other: utp });
  });

  interop('to libtorrent, which asks for it', WITH, async (arena) => {
    await gets(arena, 'to libtorrent', { ports: 'moved', one: { ...utp, pex: false }, other: libtorrent });
  });

  interop('whose ports are kept, the relay reached by TCP; one of them was told of nobody', NEEDS, async (arena) => {
    await gets(arena, 'ports kept, relay by TCP', { ports: 'kept', udp: false, one: { pex: false } });
  });

  interop('whose ports are moved: the relay, which they dial by uTP first, sees them', NEEDS, async (arena) => {
    await gets(arena, 'ports moved, relay by uTP', { ports: 'moved' });
  });

  // it knows those connected by their addresses alone, and tells others the ports they listen at: those must be the same
  interop('through libtorrent', WITH, async (arena) => {
    await gets(arena, 'through libtorrent', {
      ports: 'kept',
      relay: libtorrent,
      one: { ...utp, pex: false },
      other: utp,
    });
  });
});
