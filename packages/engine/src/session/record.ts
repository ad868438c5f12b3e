/**
 * What the session itself wants to remember of a torrent, inside the disk's resume record: selection, order, limits,
 * whether it is paused, and the magnet's trackers while there is no metadata.
 *
 * Invariant: `readOptions` never throws; what it cannot read is the default.
 */

import { utf8Encode } from '../base/bytes.ts';
import { BDict, decode, encode } from '../codec/bencode.ts';
import { encodeRecord, magnetRecord, makeRecord } from '../disk/resume.ts';
import type { Entry } from './entry.ts';

export interface RecordedOptions {
  /** Per file 0..7, or null. */
  readonly priorities: Uint8Array | null;
  readonly sequential: boolean;
  readonly paused: boolean;
  readonly downloadLimit: number;
  readonly uploadLimit: number;
  readonly group: string | null;
  /** Tiers as they stand; empty where the torrent's own are meant. */
  readonly trackers: readonly (readonly string[])[];
  /** A user has changed them: they count, whatever the torrent says. */
  readonly trackersEdited: boolean;
  readonly infoHashV2: Uint8Array | null;
}

const NOTHING: RecordedOptions = {
  priorities: null,
  sequential: false,
  paused: false,
  downloadLimit: 0,
  uploadLimit: 0,
  group: null,
  trackers: [],
  trackersEdited: false,
  infoHashV2: null,
};
const NONE = new Uint8Array(0);
/** A .torrent whose info dictionary is no longer than this stands in the record itself. */
export const INLINE_TORRENT_BYTES = 65536;

/** Under which a large .torrent is kept in the state store. */
export function metaKey(key: string): string {
  return `${key}.torrent`;
}

/** The record of a torrent as it stands, as bytes for the state store. */
export function recordBytes(entry: Entry, clean: boolean): Uint8Array {
  const options = encode({
    down: entry.downLimit.rateBps,
    group: entry.group ?? undefined,
    edited: entry.finder.trackersEdited ? 1 : 0,
    paused: entry.paused ? 1 : 0,
    priorities: entry.priorities ?? NONE,
    sequential: entry.sequential ? 1 : 0,
    trackers: entry.finder.announcer.tiers().map((tier) => tier.map((url) => utf8Encode(url))),
    up: entry.upLimit.rateBps,
    v2: entry.infoHashV2 ?? NONE,
  });
  const inline = entry.meta !== null && entry.meta.infoBytes.length <= INLINE_TORRENT_BYTES;
  const torrent = inline ? entry.torrentBytes() : null;
  if (entry.disk === null || entry.swarm.layout === null) {
    // nobody knows yet what is there: what was claimed before stands, or the next start looks as this one did
    const before = entry.options.record;
    if (before !== null && before.flushed.length > 0) return encodeRecord({ ...before, options, torrent });
    return encodeRecord({ ...magnetRecord(entry.swarmHash, entry.name, entry.folder, options), torrent });
  }
  const partials = [...entry.swarm.openPartials];
  partials.sort((a, b) => b.arrivedCount / b.blockCount - a.arrivedCount / a.blockCount || a.piece - b.piece);
  return encodeRecord(
    makeRecord(entry.disk, {
      options,
      torrent,
      movingTo: entry.movingTo,
      bootId: entry.core.ports.state.bootId,
      clean,
      inDoubt: partials.map((partial) => partial.piece),
    }),
  );
}

export function readOptions(bytes: Uint8Array): RecordedOptions {
  try {
    const dict = decode(bytes);
    if (!(dict instanceof BDict)) return NOTHING;
    const priorities = dict.bytes('priorities');
    const v2 = dict.bytes('v2');
    const tiers = dict.get('trackers');
    const text = new TextDecoder();
    return {
      priorities: priorities === null || priorities.length === 0 ? null : priorities.map((p) => Math.min(p, 7)),
      sequential: dict.int('sequential') === 1,
      paused: dict.int('paused') === 1,
      downloadLimit: Math.max(0, dict.int('down') ?? 0),
      uploadLimit: Math.max(0, dict.int('up') ?? 0),
      group: dict.text('group'),
      trackers: Array.isArray(tiers)
        ? tiers.map((tier) =>
            Array.isArray(tier) ? tier.flatMap((url) => (url instanceof Uint8Array ? [text.decode(url)] : [])) : [],
          )
        : [],
      trackersEdited: dict.int('edited') === 1,
      infoHashV2: v2?.length === 32 ? v2.slice() : null,
    };
  } catch {
    return NOTHING;
  }
}
