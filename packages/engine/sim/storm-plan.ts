/** What a storm is made of, drawn from its seed: the torrent, the machines, the faults and when they come. */

import type { Rng } from '../src/base/random.ts';
import { HOSTILE_KINDS, type HostileKind } from './hostile.ts';
import type { NodeOptions } from './node.ts';
import type { SimSessionOptions } from './sim-session.ts';
import type { SimTorrentSpec } from './torrent.ts';

export interface StormOptions {
  readonly seed: number;
  /** Honest machines, seeds included. */
  readonly peers: number;
  /** Content, about; default drawn from 1 to 6 MiB. */
  readonly bytes?: number;
  readonly pieceLength?: number;
  /** Hostile peers per honest one; default drawn from 0 to 0.2. */
  readonly hostileShare?: number;
  /** Only these kinds; default all. */
  readonly hostileKinds?: readonly HostileKind[];
  /** Crashes, power cuts, partitions, disk faults, tracker outages; default true. */
  readonly faults?: boolean;
  /** How long the safety phase lasts; default 120 s. */
  readonly safetyMs?: number;
  /** How long everyone may take after that; default 30 min. */
  readonly livenessMs?: number;
  /** Time between two recounts of everything; default 5 s. */
  readonly checkMs?: number;
  readonly poison?: boolean;
  readonly log?: (line: string) => void;
}

export interface PlannedPeer {
  readonly node: NodeOptions;
  readonly session: SimSessionOptions;
  readonly seed: boolean;
  /** Asks no tracker: knows only the first machine, and whom it hears of. */
  readonly trackerless: boolean;
  readonly startMs: number;
  /** Share of the pieces that stand on its disk at the start. */
  readonly share: number;
}

export type FaultKind =
  | 'kill'
  | 'power'
  | 'restart'
  | 'offline'
  | 'partition'
  | 'tracker'
  | 'disk-full'
  | 'disk-errors'
  | 'disk-failing'
  | 'disk-slow';

export interface PlannedFault {
  readonly kind: FaultKind;
  readonly atMs: number;
  readonly lastsMs: number;
  /** Which machine; never the first, who keeps the content alive. */
  readonly peer: number;
}

export interface StormPlan {
  readonly torrent: SimTorrentSpec;
  readonly peers: readonly PlannedPeer[];
  readonly hostile: readonly HostileKind[];
  readonly faults: readonly PlannedFault[];
  readonly safetyMs: number;
}

const FAULT_KINDS: readonly FaultKind[] = [
  'kill',
  'kill',
  'power',
  'restart',
  'offline',
  'partition',
  'tracker',
  'disk-full',
  'disk-errors',
  'disk-failing',
  'disk-slow',
];

/** Torrents above it have files of whole blocks. */
const MAX_UNALIGNED_BYTES = 8 << 20;

export function planStorm(rng: Rng, options: StormOptions): StormPlan {
  const bytes = options.bytes ?? (1 << 20) + rng.below(5 << 20);
  const torrent = planTorrent(rng, bytes, options.pieceLength ?? 32768 << rng.below(4));
  const peers: PlannedPeer[] = [];
  const seeds = 1 + rng.below(Math.max(1, Math.ceil(options.peers / 50)));
  const safetyMs = options.safetyMs ?? 120_000;
  for (let i = 0; i < options.peers; i++) {
    peers.push(planPeer(rng, i, i < seeds, torrent, Math.min(60_000, safetyMs / 2), options.faults ?? true));
  }
  const share = options.hostileShare ?? rng.float() * 0.2;
  const kinds = options.hostileKinds ?? HOSTILE_KINDS;
  const hostile: HostileKind[] = [];
  for (let i = 0; i < Math.round(options.peers * share); i++) hostile.push(kinds[rng.below(kinds.length)]!);
  const faults: PlannedFault[] = [];
  const count = (options.faults ?? true) ? Math.round(options.peers * (0.2 + rng.float() * 0.6)) : 0;
  for (let i = 0; i < count; i++) {
    faults.push({
      kind: FAULT_KINDS[rng.below(FAULT_KINDS.length)]!,
      atMs: rng.float() * safetyMs,
      lastsMs: 1000 + rng.float() * 40_000,
      peer: 1 + rng.below(options.peers - 1),
    });
  }
  return { torrent, peers, hostile, faults, safetyMs };
}

function planTorrent(rng: Rng, bytes: number, pieceLength: number): SimTorrentSpec {
  const isPrivate = rng.below(5) === 0;
  const common = { pieceLength, private: isPrivate };
  if (rng.below(3) > 0) {
    // mostly whole pieces, sometimes an odd end
    const length = rng.below(2) === 0 ? Math.ceil(bytes / pieceLength) * pieceLength : bytes + rng.below(20_000);
    return { ...common, length };
  }
  const files: { path: string[]; length: number; pad?: boolean }[] = [];
  const padded = rng.below(3) === 0;
  let left = bytes;
  let offset = 0;
  while (left > 0) {
    let length = rng.below(8) === 0 ? rng.below(3) : Math.min(left, 1 + rng.below(Math.ceil(bytes / 3)));
    // what does not lie on block borders takes its full size in memory, on every machine
    if (bytes > MAX_UNALIGNED_BYTES) length = Math.min(left, Math.ceil(length / 16384) * 16384);
    files.push({ path: rng.below(2) === 0 ? [`f${files.length}`] : ['sub', `é${files.length}`], length });
    left -= length;
    offset += length;
    const gap = (pieceLength - (offset % pieceLength)) % pieceLength;
    if (padded && gap > 0 && left > 0) {
      files.push({ path: ['.pad', `${gap}-${files.length}`], length: gap, pad: true });
      offset += gap;
    }
  }
  return { ...common, files };
}

function planPeer(
  rng: Rng,
  index: number,
  seed: boolean,
  torrent: SimTorrentSpec,
  startsWithinMs: number,
  limits: boolean,
): PlannedPeer {
  const upBps = 100_000 * 2 ** (rng.float() * 5);
  const blocks = torrent.pieceLength! / 16384;
  const reach = rng.below(10);
  const limited = limits && !seed && rng.below(10) === 0;
  const trackerless = index > 0 && !torrent.private && rng.below(8) === 0;
  return {
    node: {
      upBps,
      downBps: upBps * (1 + rng.below(8)),
      latencyMs: 1 + rng.float() * 60,
      // the first seed can always be reached
      reach: index === 0 || reach < 6 ? 'open' : reach < 9 ? 'dropped' : 'refused',
      slots: Math.max(32, blocks * (3 + rng.below(4))),
      threads: 1 + rng.below(2),
    },
    session: {
      // the metadata of a private torrent comes from its site alone (BEP 27)
      magnet: !seed && rng.below(6) === 0 && !torrent.private,
      sequential: rng.below(10) === 0,
      uploadLimit: limited ? 60_000 + rng.below(200_000) : 0,
      downloadLimit: limits && !seed && rng.below(15) === 0 ? 150_000 + rng.below(300_000) : 0,
      uploadSlots: 2 + rng.below(8),
      maxConnections: 20 + rng.below(60),
      pex: index === 0 || trackerless || rng.below(5) > 0,
      lsd: true,
    },
    seed,
    trackerless,
    startMs: index === 0 ? 0 : rng.float() * startsWithinMs,
    share: !seed && rng.below(8) === 0 ? rng.float() : 0,
  };
}
