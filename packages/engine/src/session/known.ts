/** What is known of a torrent before it is added, from whichever source it comes. */

import { equal, toHex } from '../base/bytes.ts';
import type { HostPort } from '../base/ip.ts';
import type { Magnet, Publisher } from '../codec/magnet.ts';
import { type Metainfo, parseTorrent } from '../codec/metainfo.ts';
import type { ResumeRecord } from '../disk/resume.ts';
import type { Version } from './publication.ts';
import { readOptions } from './record.ts';

export interface Known {
  readonly meta: Metainfo | null;
  readonly infoHash: Uint8Array | null;
  readonly infoHashV2: Uint8Array | null;
  readonly name: string;
  readonly trackers: readonly (readonly string[])[];
  readonly webSeeds: readonly string[];
  readonly peers: readonly HostPort[];
  /** Indices into `meta.files`. */
  readonly select: readonly number[] | null;
}

export function ofTorrent(meta: Metainfo): Known {
  const { infoHash, infoHashV2, name, trackers, webSeeds } = meta;
  return { infoHash, infoHashV2, name, trackers, webSeeds, meta, peers: [], select: null };
}

export function ofMagnet(magnet: Magnet): Known {
  return ofLink(magnet, magnet.infoHash, magnet.infoHashV2);
}

/** The torrent that a publisher's key stands for, with what the link says besides. */
export function ofVersion(publisher: Publisher, { infoHash, infoHashV2 }: Version): Known {
  return ofLink(publisher, infoHash, infoHashV2);
}

export function ofRecord(record: ResumeRecord): Known {
  const { infoHashV2, trackers } = readOptions(record.options);
  const isV2 = infoHashV2 !== null && toHex(infoHashV2).startsWith(toHex(record.infoHash));
  return {
    meta: null,
    infoHash: isV2 ? null : record.infoHash,
    infoHashV2,
    name: record.name,
    trackers,
    webSeeds: [],
    peers: [],
    select: null,
  };
}

/** A magnet whose metadata was fetched in an earlier run has it from there. */
export function withRecord(known: Known, record: ResumeRecord | null): Known {
  if (known.meta !== null || record?.torrent == null) return known;
  try {
    const meta = parseTorrent(record.torrent);
    if (!equal(meta.swarmHash, record.infoHash)) return known;
    return { ...known, meta, name: meta.name, trackers: known.trackers.length > 0 ? known.trackers : meta.trackers };
  } catch {
    return known;
  }
}

function ofLink(
  { name, peers, select, trackers, webSeeds }: Magnet | Publisher,
  infoHash: Uint8Array | null,
  infoHashV2: Uint8Array | null,
): Known {
  return {
    meta: null,
    infoHash,
    infoHashV2,
    name: name ?? toHex(infoHash ?? infoHashV2!.subarray(0, 20)),
    trackers: trackers.map((url) => [url]),
    webSeeds,
    peers,
    select,
  };
}
