/** Two behind NATs of real namespaces, brought together by a third that both are connected to (BEP 55). */

import assert from 'node:assert/strict';
import { describe } from 'vitest';
import { type Arena, interop } from './harness/arena.ts';
import type { Need } from './harness/available.ts';
import {
  MIDDLE,
  type NatPorts,
  OUTER_ONE,
  OUTER_OTHER,
  type PunchLine,
  PunchRooms,
  type Talker,
} from './harness/punch-rooms.ts';
import type { MadeTorrent } from './harness/torrent.ts';
import { pause, until } from './harness/wait.ts';

const NEEDS: readonly Need[] = ['namespace', 'nft'];
const RELAY = `${MIDDLE}:6881`;

interface Meeting {
  readonly torrent: MadeTorrent;
  readonly rooms: PunchRooms;
  readonly relay: Talker<PunchLine>;
  readonly one: Talker<PunchLine>;
  readonly other: Talker<PunchLine>;
  /** Where the other puts what it gets. */
  readonly folder: string;
}

interface MeetingOptions {
  readonly ports: NatPorts;
  readonly relay?: object;
  readonly one?: object;
  readonly other?: object;
}

/** The one at home behind the first NAT has the content, the relay wants none of it, the other knows the relay alone. */
async function meet(arena: Arena, options: MeetingOptions): Promise<Meeting> {
  const torrent = arena.torrent();
  const rooms = await PunchRooms.make(arena, options.ports);
  const folder = arena.makeFolder('other');
  const peers = [RELAY];
  const relay = rooms.session(rooms.middle, {
    options: { bind: [MIDDLE], ...options.relay },
    torrent: torrent.path,
    add: { folder: arena.makeFolder('relay'), select: [] },
  });
  await until('the relay is there', () => last(relay)?.state === 'seeding', { timeoutMs: 10_000 });
  const one = rooms.session(rooms.one, {
    options: { bind: ['0.0.0.0'], ...options.one },
    torrent: torrent.path,
    add: { folder: torrent.payload.folder, existing: 'trust', peers },
  });
  const other = rooms.session(rooms.other, {
    options: { bind: ['0.0.0.0'], ...options.other },
    torrent: torrent.path,
    add: { folder, peers },
  });
  await until('both are with the relay', () => last(relay)?.peers.length === 2, { timeoutMs: 15_000 });
  return { torrent, rooms, relay, one, other, folder };
}

function last({ lines }: Talker<PunchLine>): PunchLine | undefined {
  return lines.at(-1);
}

/** When, of its own time, it was first connected there. */
function sinceMs({ lines }: Talker<PunchLine>, ip: string): number | undefined {
  return lines.find(({ peers }) => peers.some((peer) => peer.includes(` ${ip}:`)))?.ms;
}

/** The transfer, and that it went straight from one to the other. */
async function gets(arena: Arena, name: string, meeting: Meeting): Promise<void> {
  const { torrent, relay, one, other, folder } = meeting;
  const detail = (): string => JSON.stringify([last(relay), last(one), last(other)]);
  const connected = (): number | undefined => sinceMs(other, OUTER_ONE);
  const ms = await until('they are connected', connected, { timeoutMs: 60_000, detail });
  await until('it has all', () => last(other)?.state === 'seeding', { timeoutMs: 60_000, detail });
  await arena.same(torrent, folder);
  const doneMs = last(other)!.ms;
  const way = other.lines.flatMap(({ peers }) => peers).find((peer) => peer.includes(OUTER_ONE));
  console.log(`${name}: connected ${ms} ms after the start, all there after ${doneMs} ms, by ${way}`);
  for (const { lines } of [one, other]) {
    for (const { peers } of lines) {
      const direct = peers.filter((peer) => !peer.includes(MIDDLE));
      assert.ok(direct.length <= 1, `one connection is enough: ${direct}`);
      assert.ok(
        direct.every((peer) => peer.startsWith('utp ')),
        `${direct}`,
      );
    }
  }
  assert.deepEqual([last(relay)!.bytesDone, last(relay)!.uploaded], [0, 0]);
}

describe('two behind NATs', () => {
  const utp = { transport: 'utp' };
  interop('whose ports are moved: the relay sees them', NEEDS, async (arena) => {
    await gets(arena, 'ports moved, relay by uTP', await meet(arena, { ports: 'moved', one: utp, other: utp }));
  });

  interop('whose ports are kept, the relay reached by TCP; one of them was told of nobody', NEEDS, async (arena) => {
    await gets(arena, 'ports kept, relay by TCP', await meet(arena, { ports: 'kept', one: { pex: false } }));
  });

  interop('control: through a relay without holepunching they stay apart', NEEDS, async (arena) => {
    const meeting = await meet(arena, { ports: 'kept', relay: { transport: 'tcp' }, one: { pex: false } });
    const { relay, one, other } = meeting;
    const told = (): boolean => (last(other)?.known ?? 0) > 1;
    await until('it was told of the one', told, { timeoutMs: 10_000, detail: () => JSON.stringify(last(other)) });
    await pause(8000);
    assert.deepEqual([sinceMs(one, OUTER_OTHER), sinceMs(other, OUTER_ONE)], [undefined, undefined]);
    assert.equal(last(other)!.bytesDone, 0);
    assert.equal(last(relay)!.peers.length, 2);
  });
});
