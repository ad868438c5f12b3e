/**
 * Strangers who say anything: several raw peers send one session legal and illegal messages in random order, cut
 * anywhere, with its counts recounted after each step. All from one seed; the moves are kept, to be read when it fails.
 */

import { concat, readU32 } from '../src/base/bytes.ts';
import type { Rng } from '../src/base/random.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { checkSession, checkStopped } from './checkers.ts';
import { FakeHost, type FakeMessage, type FakePeer, Msg } from './fake-peer.ts';
import { SIM_FOLDER, SimSession } from './sim-session.ts';
import type { SimTorrent } from './torrent.ts';
import { World } from './world.ts';

/** Leeches from the torrent file, from a magnet, or seeds. */
export type Role = 'leech' | 'magnet' | 'seed';

export interface AttackOptions {
  readonly seed: number;
  readonly role: Role;
  readonly moves: number;
  readonly private?: boolean;
  /** 16 KiB slots of the session. */
  readonly slots?: number;
}

export interface AttackReport {
  readonly wrong: string | null;
  readonly log: readonly string[];
  /** How often each kind of move was made, and how connections ended: shows that the attack reaches what it is meant to. */
  readonly counts: Map<string, number>;
  readonly verified: number;
}

const STRANGERS = 5;
/** A hash service as slow as this keeps pieces under judgement while the rest goes on. */
const STEP_MS = [0, 0, 0, 1, 1, 5, 20, 100, 700];

interface Stranger {
  readonly host: FakeHost;
  peer: FakePeer | null;
  fast: boolean;
  extended: boolean;
  spoke: boolean;
  paused: boolean;
  asked: { piece: number; begin: number; length: number }[];
  metadataAsked: number[];
}

export function runAttack(options: AttackOptions): AttackReport {
  return new Attack(options).run();
}

class Attack {
  readonly options: AttackOptions;
  readonly world: World;
  readonly rng: Rng;
  readonly torrent: SimTorrent;
  readonly session: SimSession;
  readonly strangers: Stranger[] = [];
  readonly log: string[] = [];
  readonly counts: Map<string, number> = new Map();

  constructor(options: AttackOptions) {
    this.options = options;
    this.world = new World({ seed: options.seed, poison: true });
    this.rng = this.world.fork('attack');
    const pieceBlocks = 1 + this.rng.below(5);
    // the last piece is short, and its last block odd
    const length = pieceBlocks * BLOCK_BYTES * (3 + this.rng.below(30)) + 1 + this.rng.below(BLOCK_BYTES * pieceBlocks);
    this.torrent = this.world.makeTorrent({
      pieceLength: pieceBlocks * BLOCK_BYTES,
      length,
      private: options.private ?? false,
    });
    const node = this.world.addNode({ slots: options.slots ?? 64, latencyMs: 1 });
    if (options.role === 'seed') node.disk.install(this.torrent, SIM_FOLDER);
    const session = {
      magnet: options.role === 'magnet',
      uploadSlots: 2,
      pex: true,
      log: (line: string) => this.#ended(line),
    };
    this.session = new SimSession(node, this.torrent, session);
    for (let i = 0; i < STRANGERS; i++) {
      const stranger: Stranger = {
        host: new FakeHost(this.world, { latencyMs: 1 }, () => ({
          onMessage: (_peer, message) => this.#heard(stranger, message),
        })),
        peer: null,
        fast: true,
        extended: true,
        spoke: false,
        paused: false,
        asked: [],
        metadataAsked: [],
      };
      this.strangers.push(stranger);
    }
    this.world.run(200);
  }

  run(): AttackReport {
    let wrong: string | null = null;
    try {
      for (let i = 0; i < this.options.moves && wrong === null; i++) {
        this.#move(this.strangers[this.rng.below(STRANGERS)]!);
        this.world.run(STEP_MS[this.rng.below(STEP_MS.length)]!);
        wrong = this.#check();
      }
      const verified = this.session.entry?.swarm.have?.count ?? 0;
      if (wrong === null) wrong = this.#stop();
      return { wrong, log: this.log, counts: this.counts, verified };
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { wrong: text, log: this.log, counts: this.counts, verified: 0 };
    }
  }

  #check(): string | null {
    const wrong = checkSession(this.session);
    if (wrong !== null) return wrong;
    const swarm = this.session.entry?.swarm;
    if (swarm === undefined) return null;
    let need = 0;
    for (const partial of swarm.partials.list) {
      let missing = 0;
      let arrived = 0;
      for (let b = 0; b < partial.blockCount; b++) {
        if (partial.state[b] === 0) missing++;
        if (partial.state[b]! > 1) arrived++;
        if (partial.state[b] === 0 && partial.slots[b] !== -1) return `a slot for missing ${partial.piece}:${b}`;
        if (partial.state[b] === 0 && partial.askers[b]! > 0) return `missing ${partial.piece}:${b} has askers`;
        if (partial.state[b] === 1 && partial.askers[b] === 0) return `nobody is asked for ${partial.piece}:${b}`;
      }
      if (missing !== partial.missingCount) return `missingCount ${partial.missingCount}, counted ${missing}`;
      if (arrived !== partial.arrivedCount) return `arrivedCount ${partial.arrivedCount}, counted ${arrived}`;
      need += missing;
    }
    if (need !== swarm.partials.needCount) return `needCount ${swarm.partials.needCount}, counted ${need}`;
    for (const peer of swarm.peers) {
      if (peer.closed) return 'a closed peer is in the swarm';
      if (peer.uploads.readingBytes < 0) return `readingBytes ${peer.uploads.readingBytes}`;
      if (peer.uploads.count > 2000 + 4000) return `${peer.uploads.count} requests queued`;
      if (peer.conversation.amInterested && peer.has === null) return 'interest in an unknown peer';
    }
    return null;
  }

  #stop(): string | null {
    let stopped = false;
    this.session.stop(() => {
      stopped = true;
    });
    if (!this.world.runUntil(() => stopped, 30_000)) return 'the session does not stop';
    return checkStopped(this.session);
  }

  #ended(line: string): void {
    const fault = /fault (\d+)/.exec(line)?.[1];
    this.#count(fault === undefined ? 'ended by them' : `fault ${fault}`);
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  #heard(stranger: Stranger, message: FakeMessage): void {
    const { payload } = message;
    if (message.id === Msg.Request) {
      const asked = { piece: readU32(payload, 0), begin: readU32(payload, 4), length: readU32(payload, 8) };
      stranger.asked.push(asked);
    }
    if (message.id === Msg.Piece) this.#count('served');
    if (message.id === Msg.Extended && payload[0] === 1) {
      const found = /5:piecei(\d+)e/.exec(String.fromCharCode(...payload.subarray(1, 60)));
      if (found !== null) stranger.metadataAsked.push(Number(found[1]));
    }
  }

  // ---- moves

  #move(stranger: Stranger): void {
    const { rng } = this;
    const { peer } = stranger;
    if (peer === null || peer.closed || (peer.up && rng.below(150) === 0)) return this.#connect(stranger);
    if (!peer.up) return;
    if (!stranger.spoke) return this.#greet(stranger, peer);
    const total = MOVES.reduce((sum, [odds]) => sum + odds, 0);
    let drawn = rng.below(total);
    for (const [odds, name, move] of MOVES) {
      drawn -= odds;
      if (drawn >= 0) continue;
      this.log.push(`${this.world.now.toFixed(1)} ${this.strangers.indexOf(stranger)} ${name}`);
      this.#count(name);
      return move(this, stranger, peer);
    }
  }

  #connect(stranger: Stranger): void {
    stranger.peer?.close();
    stranger.asked = [];
    stranger.metadataAsked = [];
    stranger.spoke = false;
    stranger.paused = false;
    stranger.fast = this.rng.below(3) > 0;
    stranger.extended = this.rng.below(4) > 0;
    const peer = stranger.host.dial({ ip: this.session.node.host.ip, port: 6881 });
    stranger.peer = peer;
    this.log.push(`${this.world.now.toFixed(1)} ${this.strangers.indexOf(stranger)} connect`);
    const peerId = this.rng.below(20) === 0 ? new Uint8Array(20).fill(7) : undefined;
    this.world.call(5, () => {
      const { fast, extended } = stranger;
      peer.sendHandshake(this.torrent, { fast, extended, ...(peerId === undefined ? {} : { peerId }) });
    });
  }

  #greet(stranger: Stranger, peer: FakePeer): void {
    const { rng, torrent } = this;
    stranger.spoke = true;
    if (stranger.extended)
      peer.sendExtended({
        m: { ut_metadata: 1, lt_donthave: 3, ut_pex: 4 },
        metadata_size: torrent.infoBytes.length,
        p: 6000 + rng.below(3),
      });
    const bits = rng.below(4);
    if (bits === 0 || (!stranger.fast && bits < 3)) peer.send(Msg.Bitfield, this.bits());
    else if (stranger.fast) peer.send(bits === 1 ? Msg.HaveNone : Msg.HaveAll);
    if (rng.below(2) === 0) peer.send(Msg.Unchoke);
  }

  bits(): Uint8Array {
    const { rng, torrent } = this;
    const bytes = new Uint8Array((torrent.pieceCount + 7) >> 3);
    rng.fill(bytes);
    if (rng.below(2) === 0) bytes.fill(255);
    const spare = bytes.length * 8 - torrent.pieceCount;
    bytes[bytes.length - 1]! &= (0xff00 >> (8 - spare)) >> 0 === 0 ? 0xff : ~((1 << spare) - 1) & 0xff;
    return bytes;
  }

  piece(): number {
    return this.rng.below(this.torrent.pieceCount);
  }
}

type Move = (attack: Attack, stranger: Stranger, peer: FakePeer) => void;

/** Takes one of the session's requests off the list, mostly the oldest. */
function takeAsked(attack: Attack, stranger: Stranger): Stranger['asked'][number] | undefined {
  const at = attack.rng.below(3) === 0 ? attack.rng.below(stranger.asked.length + 1) : 0;
  return stranger.asked.splice(at, 1)[0];
}

function answer(attack: Attack, stranger: Stranger, peer: FakePeer, corrupt: boolean): void {
  for (let n = 1 + attack.rng.below(6); n > 0; n--) {
    const asked = takeAsked(attack, stranger);
    if (asked !== undefined) peer.sendBlock(attack.torrent, asked.piece, asked.begin, asked.length, corrupt);
  }
}

/** Odds, name, what is done. */
const MOVES: readonly (readonly [number, string, Move])[] = [
  [30, 'answer', (attack, stranger, peer) => answer(attack, stranger, peer, false)],
  [1, 'corrupt', (attack, stranger, peer) => answer(attack, stranger, peer, true)],
  [6, 'unchoke', (_attack, _stranger, peer) => peer.send(Msg.Unchoke)],
  [3, 'choke', (_attack, _stranger, peer) => peer.send(Msg.Choke)],
  [4, 'interested', (_attack, _stranger, peer) => peer.send(Msg.Interested)],
  [3, 'not interested', (_attack, _stranger, peer) => peer.send(Msg.NotInterested)],
  [6, 'have', (attack, _stranger, peer) => peer.send(Msg.Have, attack.piece())],
  [2, 'late bitfield', (attack, _stranger, peer) => peer.send(Msg.Bitfield, attack.bits())],
  [1, 'late have all', (_attack, stranger, peer) => stranger.fast && peer.send(Msg.HaveAll)],
  [3, 'dont have', (attack, _stranger, peer) => peer.send(Msg.Extended, Uint8Array.from([2]), attack.piece())],
  [
    8,
    'request',
    (attack, _stranger, peer) => {
      const piece = attack.piece();
      for (let n = attack.rng.below(8); n >= 0; n--) {
        const block = attack.rng.below(attack.torrent.blockCount(piece));
        peer.send(Msg.Request, piece, block * BLOCK_BYTES, attack.torrent.blockSize(piece, block));
      }
    },
  ],
  [
    5,
    'odd request',
    (attack, _stranger, peer) => {
      const piece = attack.piece();
      const size = attack.torrent.pieceSize(piece);
      const begin = attack.rng.below(size);
      const length = [1, 17 * 1024, 131072, 3, 16384][attack.rng.below(5)]!;
      peer.send(Msg.Request, piece, begin, Math.min(length, size - begin));
    },
  ],
  [
    3,
    'cancel',
    (attack, _stranger, peer) => {
      const piece = attack.piece();
      for (let b = 0; b < 8; b++) peer.send(Msg.Cancel, piece, b * BLOCK_BYTES, BLOCK_BYTES);
    },
  ],
  [
    4,
    'reject',
    (attack, stranger, peer) => {
      const asked = takeAsked(attack, stranger);
      if (asked !== undefined && stranger.fast) peer.send(Msg.Reject, asked.piece, asked.begin, asked.length);
    },
  ],
  [
    1,
    'odd reject',
    (attack, stranger, peer) =>
      stranger.fast && peer.send(Msg.Reject, attack.piece(), attack.rng.below(40_000), attack.rng.below(2) + 1),
  ],
  [3, 'allowed fast', (attack, stranger, peer) => stranger.fast && peer.send(Msg.AllowedFast, attack.piece())],
  [1, 'suggest', (attack, stranger, peer) => stranger.fast && peer.send(Msg.Suggest, attack.piece())],
  [
    3,
    'unsolicited',
    (attack, _stranger, peer) => {
      const piece = attack.piece();
      const block = attack.rng.below(attack.torrent.blockCount(piece));
      const corrupt = attack.rng.below(2) === 0;
      peer.sendBlock(attack.torrent, piece, block * BLOCK_BYTES, attack.torrent.blockSize(piece, block), corrupt);
    },
  ],
  [
    2,
    'wrong length',
    (attack, stranger, peer) => {
      const asked = takeAsked(attack, stranger);
      if (asked === undefined) return;
      const room = attack.torrent.pieceSize(asked.piece) - asked.begin;
      const length = Math.min(room, [1, asked.length + 1, BLOCK_BYTES * 2, asked.length - 1][attack.rng.below(4)]!);
      peer.sendBlock(attack.torrent, asked.piece, asked.begin, Math.max(1, length), false);
    },
  ],
  [
    2,
    'half a block, then maybe the end',
    (attack, stranger, peer) => {
      const asked = takeAsked(attack, stranger);
      if (asked === undefined) return;
      const head = new Uint8Array(13);
      new DataView(head.buffer).setUint32(0, 9 + asked.length);
      head[4] = Msg.Piece;
      new DataView(head.buffer).setUint32(5, asked.piece);
      new DataView(head.buffer).setUint32(9, asked.begin);
      const bytes = attack.torrent.read(asked.piece * attack.torrent.pieceLength + asked.begin, asked.length);
      const cut = attack.rng.below(asked.length);
      peer.sendRaw(concat([head, bytes.slice(0, cut)]));
      if (attack.rng.below(2) === 0) attack.world.call(20, () => peer.close());
      // what is said meanwhile comes after the rest, as the other side sees it
      else attack.world.call(0, () => peer.sendRaw(bytes.slice(cut)));
    },
  ],
  [
    2,
    'extended handshake',
    (attack, _stranger, peer) =>
      peer.sendExtended({
        m: { ut_metadata: attack.rng.below(3), lt_donthave: attack.rng.below(3), upload_only: 4 },
        reqq: [0, 1, 500, 100_000_000][attack.rng.below(4)]!,
        upload_only: attack.rng.below(2),
        metadata_size: [attack.torrent.infoBytes.length, 1, 16384 * 3][attack.rng.below(3)]!,
      }),
  ],
  [
    4,
    'metadata',
    (attack, stranger, peer) => {
      const piece = stranger.metadataAsked.shift();
      const { infoBytes } = attack.torrent;
      if (piece === undefined) return;
      const right = attack.rng.below(4) > 0;
      const size = right ? infoBytes.length : 5;
      const head = `d8:msg_typei1e5:piecei${piece}e10:total_sizei${size}ee`;
      const data = infoBytes.slice(piece * 16384, piece * 16384 + 16384);
      peer.send(Msg.Extended, Uint8Array.from([1]), ascii(head), data);
    },
  ],
  [
    1,
    'metadata reject and request',
    (attack, stranger, peer) => {
      const kind = attack.rng.below(2) * 2;
      const piece = stranger.metadataAsked.shift() ?? attack.rng.below(4);
      peer.send(Msg.Extended, Uint8Array.from([1]), ascii(`d8:msg_typei${kind}e5:piecei${piece}ee`));
    },
  ],
  [1, 'upload only', (attack, _s, peer) => peer.send(Msg.Extended, Uint8Array.from([3, attack.rng.below(2)]))],
  [
    1,
    'peer exchange',
    (attack, _stranger, peer) => {
      const { rng } = attack;
      const some = (): { ip: string; port: number }[] =>
        Array.from({ length: rng.below(30) }, () => ({
          ip: `77.0.${rng.below(2)}.${rng.below(40)}`,
          port: rng.below(3),
        }));
      if (rng.below(8) > 0) peer.sendPex(some(), some(), rng.below(32));
      else peer.send(Msg.Extended, Uint8Array.of(4), ascii(['', 'de', 'd5:added3:abce', 'le'][rng.below(4)]!));
    },
  ],
  [1, 'port', (attack, _stranger, peer) => peer.send(Msg.Port, Uint8Array.of(attack.rng.below(2), 7))],
  [1, 'keep-alive and unknown', (_a, _s, peer) => peer.sendRaw(Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 2, 99, 1]))],
  [
    2,
    'pause or resume reading',
    (_attack, stranger, peer) => {
      stranger.paused = !stranger.paused;
      if (stranger.paused) peer.pause();
      else peer.resume();
    },
  ],
  [1, 'close', (_attack, _stranger, peer) => peer.close()],
  [
    1,
    'breach',
    (attack, _stranger, peer) => {
      const { rng, torrent } = attack;
      const kind = rng.below(9);
      if (kind === 0) peer.send(Msg.Bitfield, new Uint8Array(1 + ((torrent.pieceCount + 7) >> 3)));
      else if (kind === 1) peer.send(Msg.Have, torrent.pieceCount);
      else if (kind === 2) peer.send(Msg.Request, 0, torrent.pieceLength, BLOCK_BYTES);
      else if (kind === 3) peer.send(Msg.Request, 0, 0, 131073);
      else if (kind === 4) peer.sendRaw(Uint8Array.from([255, 255, 255, 255, 7]));
      else if (kind === 5) peer.send(Msg.HaveNone);
      else if (kind === 6) peer.send(Msg.AllowedFast, 2_000_000);
      else if (kind === 7) peer.send(Msg.Piece, torrent.pieceCount, 0, new Uint8Array(10));
      else {
        const bytes = new Uint8Array(40);
        rng.fill(bytes);
        peer.sendRaw(bytes);
      }
    },
  ],
];

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
