/**
 * Which files of a torrent are wanted, and what that means in pieces and bytes. Pure functions of the metainfo, the layout,
 * and the priorities 0..7 per file (null: all alike); pads are nobody's wish and count nowhere.
 */

import type { Bitfield } from '../base/bitfield.ts';
import type { Layout } from '../codec/layout.ts';
import type { Metainfo } from '../codec/metainfo.ts';

export const NORMAL_PRIORITY = 4;
const FIRST_PRIORITY = 7;

export interface Choice {
  /** Indices of files; null: all. */
  readonly select: readonly number[] | null;
  /** Whether these indices leave pads out. */
  readonly selectSkipsPads: boolean;
  /** From an earlier run, where nothing is selected now. */
  readonly priorities: Uint8Array | null;
}

/** What is wanted from the start. */
export function chosenFiles(meta: Metainfo, { priorities, select, selectSkipsPads }: Choice): Uint8Array | null {
  if (select === null) return priorities?.length === meta.files.length ? priorities : null;
  const chosen = new Uint8Array(meta.files.length);
  const wanted = new Set(select);
  let index = 0;
  meta.files.forEach((file, f) => {
    if (wanted.has(selectSkipsPads ? index : f) && !file.pad) chosen[f] = NORMAL_PRIORITY;
    if (!file.pad) index++;
  });
  return chosen;
}

/** Per piece the highest priority of its files; null: all alike. */
export function piecePriorities(
  meta: Metainfo,
  layout: Layout,
  priorities: Uint8Array | null,
  firstAndLast: boolean,
): Uint8Array | null {
  if (priorities === null && !firstAndLast) return null;
  const pieces = new Uint8Array(meta.pieceCount);
  meta.files.forEach((file, f) => {
    const priority = priorities === null ? NORMAL_PRIORITY : priorities[f]!;
    if (file.pad || file.length === 0 || priority === 0) return;
    const first = layout.firstPiece(f);
    const last = layout.lastPiece(f);
    for (let p = first; p <= last; p++) pieces[p] = Math.max(pieces[p]!, priority);
    if (!firstAndLast) return;
    pieces[first] = FIRST_PRIORITY;
    pieces[last] = FIRST_PRIORITY;
  });
  return pieces;
}

/** Bytes of the wanted files. */
export function wantedBytes(meta: Metainfo, priorities: Uint8Array | null): number {
  if (priorities === null) return meta.bytes;
  let bytes = 0;
  meta.files.forEach((file, f) => {
    if (!file.pad && priorities[f]! > 0) bytes += file.length;
  });
  return bytes;
}

/** Bytes of wanted files that lie in these pieces. */
export function bytesIn(meta: Metainfo, layout: Layout, priorities: Uint8Array | null, pieces: Bitfield): number {
  if (pieces.isFull) return wantedBytes(meta, priorities);
  if (priorities === null && meta.infoHash !== null && meta.bytes === meta.length) {
    // every byte of piece space is a file's: no need to look at each
    const last = meta.pieceCount - 1;
    const short = pieces.get(last) ? meta.pieceLength - layout.pieceSize(last) : 0;
    return pieces.count * meta.pieceLength - short;
  }
  let bytes = 0;
  meta.files.forEach((file, f) => {
    if (!file.pad && priorities?.[f] !== 0) bytes += fileBytesIn(meta, layout, f, pieces);
  });
  return bytes;
}

/** Bytes of one file that lie in these pieces. */
export function fileBytesIn(meta: Metainfo, layout: Layout, index: number, pieces: Bitfield): number {
  const file = meta.files[index]!;
  if (pieces.isFull || file.length === 0) return file.length;
  let bytes = 0;
  for (let p = layout.firstPiece(index); p <= layout.lastPiece(index); p++) {
    if (!pieces.get(p)) continue;
    const begin = p * meta.pieceLength;
    const end = begin + layout.pieceSize(p);
    bytes += Math.min(end, file.offset + file.length) - Math.max(begin, file.offset);
  }
  return bytes;
}
