/**
 * Reads along what honest processes send, as it leaves, and notes what they must never say: a claim of a piece that is
 * not verified, a block with wrong content, more requests than a peer queues, PEX, holepunch or PORT in a private torrent.
 *
 * A claim is right when the process saw the piece's digest itself, or the piece stood right on its disk at boot.
 */

import { Bitfield } from '../src/base/bitfield.ts';
import { equal, latin1, readU32 } from '../src/base/bytes.ts';
import { formatIp } from '../src/base/ip.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { parsePex } from '../src/wire/pex.ts';
import type { SimConn } from './conn.ts';
import { TAG_BYTES, TAG_WORDS, tagWords, takeWords } from './content.ts';
import { Msg } from './fake-peer.ts';
import type { WireTap } from './host.ts';
import type { SimNode } from './node.ts';
import type { SimTorrent } from './torrent.ts';
import type { World } from './world.ts';

/** Requests in flight to one peer: the engine's own reqq, the most it may advertise and use. */
const MAX_REQUESTS = 2000;
const HANDSHAKE_BYTES = 68;
/** Longest body looked at whole: a bitfield of 2^16 pieces, an extended handshake. */
const KEEP_BYTES = 8192;

const IN_HANDSHAKE = 0;
const IN_LENGTH = 1;
const IN_BODY = 2;

/** What one end of a connection has said so far. */
class Stream {
  phase: number = IN_HANDSHAKE;
  torrent: SimTorrent | null = null;
  body: Uint8Array = new Uint8Array(128);
  got = 0;
  want: number = HANDSHAKE_BYTES;
  /** Of the message's body, beyond what is kept. */
  skip = 0;
  requests = 0;
  blocks = 0;
  pexCount = 0;
  /** Whom it named as connected, compact and as hex. */
  pexTold: Set<string> | null = null;
}

export class WireCheck implements WireTap {
  readonly world: World;
  readonly violations: string[] = [];
  /** Disks may hold what nobody can know to be wrong: content of blocks is not checked. */
  trustsDisks = true;
  messageCount = 0;
  readonly #streams: Map<SimConn, Stream> = new Map();
  readonly #nodes: Map<number, SimNode> = new Map();
  /** By host: the addresses that it shook hands with. */
  readonly #met: Map<number, Set<string>> = new Map();
  readonly #words: Int32Array = new Int32Array(2 * TAG_WORDS);

  constructor(world: World) {
    this.world = world;
  }

  /** Watches an honest node from its next boot on. */
  watch(node: SimNode): void {
    this.#nodes.set(node.host.id, node);
    node.host.tap = this;
  }

  /** Call after each boot: what stands right on the disk may be claimed. */
  booted(node: SimNode, torrent: SimTorrent, root: string): void {
    const seen = new Bitfield(torrent.pieceCount);
    for (let p = 0; p < torrent.pieceCount; p++) if (node.disk.isRight(torrent, root, p)) seen.set(p);
    node.verified.set(torrent.id, seen);
  }

  /** Forgets connections that are over. */
  sweep(): void {
    for (const conn of this.#streams.keys()) if (!conn.isOpen) this.#streams.delete(conn);
  }

  onLeft(conn: SimConn, bytes: Uint8Array, length: number): void {
    let stream = this.#streams.get(conn);
    if (stream === undefined) {
      stream = new Stream();
      this.#streams.set(conn, stream);
    }
    let at = 0;
    while (at < length) {
      if (stream.got < stream.want) {
        const take = Math.min(stream.want - stream.got, length - at);
        if (stream.body.length < stream.want) {
          const wider = new Uint8Array(KEEP_BYTES);
          wider.set(stream.body.subarray(0, stream.got));
          stream.body = wider;
        }
        for (let i = 0; i < take; i++) stream.body[stream.got + i] = bytes[at + i]!;
        stream.got += take;
        at += take;
      } else {
        const take = Math.min(stream.skip, length - at);
        stream.skip -= take;
        at += take;
      }
      if (stream.got === stream.want && (stream.skip === 0 || stream.phase === IN_BODY)) this.#advance(conn, stream);
    }
  }

  #advance(conn: SimConn, stream: Stream): void {
    if (stream.phase === IN_HANDSHAKE) {
      const hash = stream.body.subarray(28, 48);
      stream.torrent = this.world.torrents.find((torrent) => equal(torrent.infoHash, hash)) ?? null;
      if (stream.torrent === null) this.#violation(conn, 'handshake of an unknown torrent');
      if (stream.torrent?.private && (stream.body[27]! & 1) !== 0) this.#violation(conn, 'a DHT in a private torrent');
      this.#meets(conn);
      this.#next(stream, IN_LENGTH, 4, 0);
    } else if (stream.phase === IN_LENGTH) {
      const length = readU32(stream.body, 0);
      if (length === 0) this.#next(stream, IN_LENGTH, 4, 0);
      else if (length > KEEP_BYTES) this.#next(stream, IN_BODY, 9 + TAG_BYTES, length - 9 - TAG_BYTES);
      else this.#next(stream, IN_BODY, length, 0);
    } else {
      if (stream.got > 0) {
        this.messageCount++;
        if (stream.torrent !== null) this.#message(conn, stream, stream.torrent);
        stream.got = 0;
        stream.want = 0;
      }
      if (stream.skip === 0) this.#next(stream, IN_LENGTH, 4, 0);
    }
  }

  #next(stream: Stream, phase: number, want: number, skip: number): void {
    stream.phase = phase;
    stream.got = 0;
    stream.want = want;
    stream.skip = skip;
  }

  #message(conn: SimConn, stream: Stream, torrent: SimTorrent): void {
    const { body } = stream;
    switch (body[0]) {
      case Msg.Have:
        this.#claims(conn, torrent, readU32(body, 1));
        break;
      case Msg.HaveAll:
        for (let p = 0; p < torrent.pieceCount; p++) this.#claims(conn, torrent, p);
        break;
      case Msg.Bitfield:
        for (let p = 0; p < torrent.pieceCount; p++) {
          if ((body[1 + (p >> 3)]! & (128 >> (p & 7))) !== 0) this.#claims(conn, torrent, p);
        }
        break;
      case Msg.Request:
        // answers of those who are not watched are not seen
        if (!this.#nodes.has(conn.other!.host.id)) break;
        if (++stream.requests > MAX_REQUESTS) this.#violation(conn, `${stream.requests} requests in flight`);
        break;
      case Msg.Piece:
        stream.blocks++;
        this.#answered(conn);
        this.#checkBlock(conn, torrent, readU32(body, 1), readU32(body, 5), stream.want - 9 + stream.skip);
        break;
      case Msg.Reject:
        this.#answered(conn);
        break;
      case Msg.Port:
        if (torrent.private) this.#violation(conn, 'PORT in a private torrent');
        break;
      case Msg.Extended:
        this.#extended(conn, stream, torrent);
        break;
    }
  }

  #meets(conn: SimConn): void {
    const met = this.#met.get(conn.host.id) ?? new Set();
    this.#met.set(conn.host.id, met.add(conn.remote.ip));
  }

  #extended(conn: SimConn, stream: Stream, torrent: SimTorrent): void {
    const text = latin1(stream.body.subarray(2, stream.got));
    const isPex = stream.body[1] !== 0 && /^d(5:added|7:added.f|6:added6|8:added6.f|7:dropped|8:dropped6)/.test(text);
    if (torrent.private && (isPex || text.includes('ut_pex'))) this.#violation(conn, 'PEX in a private torrent');
    if (torrent.private && (isHolepunch(stream) || text.includes('ut_holepunch'))) {
      this.#violation(conn, 'holepunch in a private torrent');
    }
    if (isPex) this.#exchange(conn, stream);
  }

  #exchange(conn: SimConn, stream: Stream): void {
    const message = parsePex(stream.body.slice(2, stream.got));
    if (message === null) return this.#violation(conn, 'PEX that cannot be read');
    const added = [...endpoints(message.added4, 6), ...endpoints(message.added6, 18)];
    const dropped = [...endpoints(message.dropped4, 6), ...endpoints(message.dropped6, 18)];
    const first = stream.pexCount++ === 0;
    if (added.length > (first ? 100 : 50) || dropped.length > 50) this.#violation(conn, 'PEX of too many');
    stream.pexTold ??= new Set();
    const met = this.#met.get(conn.host.id)!;
    for (const peer of dropped) {
      if (!stream.pexTold.delete(peer)) this.#violation(conn, `PEX drops ${peer}, never told`);
    }
    for (const peer of added) {
      const ip = peer.slice(0, peer.indexOf(' '));
      if (stream.pexTold.has(peer)) this.#violation(conn, `PEX tells of ${peer} twice`);
      if (dropped.includes(peer)) this.#violation(conn, `PEX drops and adds ${peer}`);
      if (!met.has(ip)) this.#violation(conn, `PEX tells of ${peer}, not met`);
      if (ip === conn.remote.ip) this.#violation(conn, `PEX tells ${peer} of itself`);
      stream.pexTold.add(peer);
    }
  }

  #answered(conn: SimConn): void {
    const asker = conn.other === null ? undefined : this.#streams.get(conn.other);
    if (asker !== undefined && asker.requests > 0) asker.requests--;
  }

  #claims(conn: SimConn, torrent: SimTorrent, piece: number): void {
    const node = this.#nodes.get(conn.host.id)!;
    if (piece >= torrent.pieceCount) this.#violation(conn, `claims piece ${piece} of ${torrent.pieceCount}`);
    else if (!node.verified.get(torrent.id)?.get(piece)) this.#violation(conn, `claims piece ${piece}, not verified`);
  }

  #checkBlock(conn: SimConn, torrent: SimTorrent, piece: number, begin: number, length: number): void {
    if (piece >= torrent.pieceCount || begin + length > torrent.pieceSize(piece)) {
      this.#violation(conn, `sends ${piece}:${begin}+${length}, outside the torrent`);
      return;
    }
    if (!this.trustsDisks || begin % BLOCK_BYTES !== 0 || length < TAG_BYTES) return;
    if (torrent.files.some((file) => file.pad)) return;
    const body = this.#streams.get(conn)!.body;
    takeWords(body, 9, this.#words, 0);
    tagWords(this.#words, TAG_WORDS, torrent.id, piece, begin / BLOCK_BYTES, 0);
    for (let i = 0; i < TAG_WORDS; i++) {
      if (this.#words[i] !== this.#words[TAG_WORDS + i]) {
        this.#violation(conn, `sends wrong content for ${piece}:${begin}`);
        return;
      }
    }
  }

  #violation(conn: SimConn, what: string): void {
    if (this.violations.length < 20) {
      this.violations.push(`${this.world.now.toFixed(1)} ms, host ${conn.host.id} to ${conn.remote.ip}: ${what}`);
    }
  }
}

function endpoints(list: Uint8Array, size: number): string[] {
  const found: string[] = [];
  for (let at = 0; at < list.length; at += size) {
    const port = (list[at + size - 2]! << 8) | list[at + size - 1]!;
    found.push(`${formatIp(list.subarray(at, at + size - 2))} ${port}`);
  }
  return found;
}

/** By its form: numbers of extension messages are the receiver's. */
function isHolepunch({ body, got }: Stream): boolean {
  return body[1] !== 0 && (got === 2 + 12 || got === 2 + 24) && body[2]! <= 2 && body[3]! <= 1;
}
