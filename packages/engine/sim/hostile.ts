/** Scripts of fake peers: an honest seed, and the ways a peer misbehaves (DEMANDS 4.4). */

import { readU32 } from '../src/base/bytes.ts';
import { BLOCK_BYTES } from '../src/base/slot-pool.ts';
import { type FakePeer, Msg, type Script } from './fake-peer.ts';
import type { SimTorrent } from './torrent.ts';

export const HOSTILE_KINDS = [
  /** Claims all, rejects every request. */
  'rejecter',
  /** Claims all, never answers. */
  'silent',
  /** Claims all, sends one block a minute. */
  'slow',
  /** Sends one wrong block in each piece. */
  'corrupter',
  'fast-flooder',
  'have-flooder',
  'request-flooder',
  /** Asks for much and reads nothing. */
  'zero-window',
  /** Sends blocks that nobody asked for. */
  'unsolicited',
  /** Tells of machines that do not exist. */
  'poisoner',
  /** Bytes that mean nothing. */
  'garbage',
  /** Connects and says nothing. */
  'mute',
] as const;
export type HostileKind = (typeof HOSTILE_KINDS)[number];

export interface SeedOptions {
  /** Which blocks are sent wrong. */
  readonly corrupt?: (piece: number, block: number) => boolean;
  /** Wrong in the same way as those of all who collude. */
  readonly colluding?: boolean;
  /** Time between two blocks of one connection. */
  readonly blockMs?: number;
  readonly answers?: 'blocks' | 'rejects' | 'nothing';
}

/** A seed; honest without options. */
export function seedScript(torrent: SimTorrent, options: SeedOptions = {}): Script {
  let greeted = false;
  let freeAt = 0;
  const greet = (peer: FakePeer): void => {
    if (greeted) return;
    greeted = true;
    peer.sendHandshake(torrent);
    peer.sendExtended({ m: {}, v: 'Fake 1', reqq: 500 });
    peer.send(Msg.HaveAll);
  };
  const answer = (peer: FakePeer, piece: number, begin: number, length: number): void => {
    if (peer.closed) return;
    const corrupt = options.corrupt?.(piece, begin / BLOCK_BYTES) ?? false;
    peer.sendBlock(
      torrent,
      piece,
      begin,
      length,
      corrupt ? (options.colluding ? 255 : 1 + peer.world.rng.below(254)) : 0,
    );
  };
  return {
    onUp: greet,
    onMessage: (peer, message): void => {
      if (message.id === Msg.Interested) peer.send(Msg.Unchoke);
      if (message.id !== Msg.Request) return;
      const piece = readU32(message.payload, 0);
      const begin = readU32(message.payload, 4);
      const length = readU32(message.payload, 8);
      if (options.answers === 'nothing') return;
      if (options.answers === 'rejects') peer.send(Msg.Reject, message.payload);
      else if (options.blockMs === undefined) answer(peer, piece, begin, length);
      else {
        freeAt = Math.max(freeAt, peer.world.now) + options.blockMs;
        peer.world.call(freeAt - peer.world.now, () => answer(peer, piece, begin, length));
      }
    },
  };
}

/** Of one connection. A storm has hundreds of them, and is to end some day. */
const FLOOD_PER_SECOND = 25;

export function hostileScript(
  torrent: SimTorrent,
  kind: HostileKind,
  floodPerSecond: number = FLOOD_PER_SECOND,
): Script {
  switch (kind) {
    case 'rejecter':
      return seedScript(torrent, { answers: 'rejects' });
    case 'silent':
      return seedScript(torrent, { answers: 'nothing' });
    case 'slow':
      return seedScript(torrent, { blockMs: 60_000 });
    case 'corrupter':
      return seedScript(torrent, { corrupt: (piece, block) => block === piece % torrent.blockCount(piece) });
    case 'fast-flooder':
      return flooder(torrent, (peer, n) => peer.send(Msg.AllowedFast, n % torrent.pieceCount), floodPerSecond);
    case 'have-flooder':
      return flooder(torrent, (peer, n) => peer.send(Msg.Have, n % torrent.pieceCount), floodPerSecond);
    case 'request-flooder':
      return flooder(
        torrent,
        (peer, n) => peer.send(Msg.Request, n % torrent.pieceCount, 0, BLOCK_BYTES),
        floodPerSecond,
      );
    case 'unsolicited':
      return flooder(torrent, (peer, n) => peer.sendBlock(torrent, n % torrent.pieceCount, 0, 1000, 1), 5);
    case 'zero-window':
      return zeroWindow(torrent);
    case 'poisoner':
      return poisoner(torrent);
    case 'garbage':
      return {
        onUp: (peer): void => {
          const bytes = new Uint8Array(500);
          peer.world.rng.fill(bytes);
          peer.sendHandshake(torrent);
          peer.sendRaw(bytes);
        },
        onMessage: () => {},
      };
    case 'mute':
      return { onMessage: () => {} };
  }
}

function flooder(torrent: SimTorrent, one: (peer: FakePeer, n: number) => void, perSecond: number): Script {
  let sent = 0;
  return {
    onUp: (peer): void => {
      peer.sendHandshake(torrent);
      peer.sendExtended({ m: {} });
      peer.send(Msg.HaveNone);
      peer.send(Msg.Interested);
    },
    onMessage: () => {},
    onSecond: (peer): void => {
      for (let i = 0; i < perSecond; i++) one(peer, sent++);
    },
  };
}

/** As fast as it may without being closed. */
const POISON_MS = 11_000;
const POISON_PEERS = 100;

function poisoner(torrent: SimTorrent): Script {
  let dueAt = 0;
  return {
    onUp: (peer): void => {
      peer.sendHandshake(torrent);
      peer.sendExtended({ m: { ut_pex: 1 } });
      peer.send(Msg.HaveNone);
    },
    onMessage: () => {},
    onSecond: (peer): void => {
      const { now, rng } = peer.world;
      if (now < dueAt) return;
      dueAt = now + POISON_MS;
      peer.sendPex(
        Array.from({ length: POISON_PEERS }, () => ({ ip: `77.${rng.below(256)}.${rng.below(256)}.9`, port: 1 })),
      );
    },
  };
}

function zeroWindow(torrent: SimTorrent): Script {
  return {
    onUp: (peer): void => {
      peer.sendHandshake(torrent);
      peer.send(Msg.HaveNone);
      peer.send(Msg.Interested);
    },
    onMessage: (peer, message): void => {
      if (message.id !== Msg.Unchoke) return;
      for (let n = 0; n < 200; n++) {
        const piece = n % torrent.pieceCount;
        peer.send(Msg.Request, piece, 0, torrent.blockSize(piece, 0));
      }
      peer.pause();
    },
  };
}
