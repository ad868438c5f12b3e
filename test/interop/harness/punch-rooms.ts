/**
 * Two homes behind NATs, and a machine that both reach:
 *
 *     one 192.168.1.2 --lan--> NAT 203.0.113.2 --wan--> (net) <--wan-- NAT 198.51.100.2 <--lan-- other 192.168.1.2
 *                                                         |
 *                                                  relay 192.0.2.1
 *
 * What leaves a home has its router's address; a router lets in nothing but answers, and says nothing of the rest. The net
 * carries packets between the three. None leaves these rooms.
 */

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Arena } from './arena.ts';
import { PYTHON } from './available.ts';
import type { Program } from './program.ts';
import { cable, Room } from './rooms.ts';

export const RELAY = '192.0.2.1';
export const OUTER_ONE = '203.0.113.2';
export const OUTER_OTHER = '198.51.100.2';
const INNER = '192.168.1.2';

/**
 * Which port outside stands for one inside: 'kept', the same one, as a Linux router does while it is free; or another, for
 * UDP the same one towards everybody, which nobody can guess.
 */
export type NatPorts = 'kept' | 'moved';

/** UDP ports outside, where they are moved. */
const MOVED_ONE = 45_001;
const MOVED_OTHER = 46_002;

/** A program of the test's own that says JSON lines. */
export interface Talker<Line> {
  readonly program: Program;
  readonly lines: Line[];
}

/** What a session says whenever it changes. */
export interface PunchLine {
  /** Since the session was up. */
  readonly ms: number;
  readonly state: string;
  readonly bytesDone: number;
  readonly uploaded: number;
  readonly known: number;
  /** "utp 203.0.113.2:45001 in Shoal 0.1" */
  readonly peers: readonly string[];
}

export class PunchRooms {
  readonly relay: Room;
  readonly one: Room;
  readonly other: Room;

  private constructor(relay: Room, one: Room, other: Room) {
    this.relay = relay;
    this.one = one;
    this.other = other;
  }

  static async make(arena: Arena, ports: NatPorts): Promise<PunchRooms> {
    const folder = arena.makeFolder('rooms');
    const names = ['net', 'relay', 'nat-one', 'nat-other', 'one', 'other'];
    const rooms = await Promise.all(names.map((name) => Room.make(name, folder)));
    for (const room of rooms) arena.keep({ name: room.name, stop: () => room.end(), tail: () => room.tail() });
    const [net, relay, natOne, natOther, one, other] = rooms as [Room, Room, Room, Room, Room, Room];
    forward(net);
    const hop = RELAY.replace(/\d+$/, '2');
    cable({ room: relay, device: 'eth', address: `${RELAY}/24` }, { room: net, device: 'relay', address: `${hop}/24` });
    relay.ip('route', 'add', 'default', 'via', hop);
    home(one, natOne, net, OUTER_ONE, `${folder}/one`, ports === 'kept' ? 0 : MOVED_ONE);
    home(other, natOther, net, OUTER_OTHER, `${folder}/other`, ports === 'kept' ? 0 : MOVED_OTHER);
    return new PunchRooms(relay, one, other);
  }

  /** The relay is reached by TCP alone. */
  keepUdpOut(): void {
    const chain = 'chain inet filter input { type filter hook input priority 0; meta l4proto udp drop; }';
    must(this.relay, 'nft', `add table inet filter; add ${chain}`);
  }

  /** A session of the library with one torrent; `punch-session.mjs` says what `request` is. */
  session(room: Room, request: object): Talker<PunchLine> {
    const script = fileURLToPath(new URL('./punch-session.mjs', import.meta.url));
    return talker(room, process.execPath, [script, JSON.stringify(request)]);
  }

  /** The same by libtorrent; `punch-libtorrent.py` says what `request` is. */
  libtorrent(room: Room, request: object): Talker<PunchLine> {
    const script = fileURLToPath(new URL('./punch-libtorrent.py', import.meta.url));
    return talker(room, PYTHON, [script, JSON.stringify(request)]);
  }
}

export function talker<Line>(room: Room, command: string, args: readonly string[]): Talker<Line> {
  const lines: Line[] = [];
  const onLine = (text: string): void => void lines.push(JSON.parse(text) as Line);
  return { program: room.start(command, args, { onLine }), lines };
}

/** Joins a machine to its router, and that to the net; `movedTo`: where its UDP ports go, 0: they are kept. */
function home(inside: Room, nat: Room, net: Room, outer: string, file: string, movedTo: number): void {
  const hop = outer.replace(/\d+$/, '1');
  const gateway = INNER.replace(/\d+$/, '1');
  cable(
    { room: inside, device: 'eth', address: `${INNER}/24` },
    { room: nat, device: 'lan', address: `${gateway}/24` },
  );
  cable({ room: nat, device: 'wan', address: `${outer}/24` }, { room: net, device: inside.name, address: `${hop}/24` });
  inside.ip('route', 'add', 'default', 'via', gateway);
  nat.ip('route', 'add', 'default', 'via', hop);
  forward(nat);
  writeFileSync(file, rules(movedTo));
  must(nat, 'nft', '-f', file);
}

function rules(movedTo: number): string {
  return `
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname { "lo", "lan" } accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" accept
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ${movedTo === 0 ? '' : `oifname "wan" meta l4proto udp masquerade to :${movedTo}`}
    oifname "wan" masquerade
  }
}
`;
}

function forward(room: Room): void {
  must(room, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
}

function must(room: Room, ...command: readonly string[]): void {
  const [first, ...rest] = [...room.enter, ...command];
  const { status, stderr } = spawnSync(first!, rest, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
}
