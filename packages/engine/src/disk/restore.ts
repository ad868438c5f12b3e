/**
 * Finds out at a start what of a torrent is on disk. By cases:
 *
 *     record            claimed at once                             hashed first
 *     clean stop        flushed, in files of the same size, mtime   flushed, in files that differ; in doubt
 *     same boot, kill   flushed (page cache survives)               in doubt (<= 32)
 *     another boot      synced                                      flushed but not synced; in doubt
 *     none, 'check'     nothing                                     every piece that the files are long enough for
 *     none, 'trust'     every piece the files are long enough for   nothing
 *
 * In all cases a piece that reaches past the end of its file, or whose file is missing, is neither. After a kill files
 * are newer than the record, so that times say nothing.
 */

import { Bitfield } from '../base/bitfield.ts';
import { equal } from '../base/bytes.ts';
import type { Disk } from './disk.ts';
import { PART_FILE } from './part-file.ts';
import { moveFiles } from './relocate.ts';
import type { ResumeRecord } from './resume.ts';

/** Ends in `disk.restored`. */
export function restore(disk: Disk, record: ResumeRecord | null, mode: 'check' | 'trust', bootId: string): void {
  const known = record !== null && fits(disk, record) ? record : null;
  if (known !== null) adopt(disk, known);
  if (known?.movingTo == null) return look(disk, known, mode, bootId);
  // the process ended in the middle of a move: what is still at the old place follows
  const { movingTo } = known;
  disk.fence((end) => {
    moveFiles(disk, movingTo, (fault) => {
      if (fault === null) disk.places.rebase(movingTo);
      end();
      look(disk, known, mode, bootId);
    });
  });
}

/** Whether a record is of this torrent. */
function fits(disk: Disk, record: ResumeRecord): boolean {
  const { meta, layout } = disk;
  const count = meta.files.length;
  if (!equal(record.infoHash, meta.swarmHash) || record.flushed.length !== layout.pieceCount) return false;
  if (record.stamps.length !== 0 && record.stamps.length !== count * 2) return false;
  if (record.made.length !== 0 && Bitfield.from(record.made, count) === null) return false;
  return record.parted.every((file) => file < count && !meta.files[file]!.pad);
}

/** Takes over what a record says of the files. */
function adopt(disk: Disk, record: ResumeRecord): void {
  const { meta, layout, places, table } = disk;
  const parted = new Set(record.parted);
  const made = record.made.length === 0 ? null : Bitfield.from(record.made, meta.files.length);
  for (let f = 0; f < meta.files.length; f++) {
    places.setParted(f, parted.has(f));
    if (made?.get(f) === true) table.setMade(f);
    else if (record.movingTo !== null && !parted.has(f) && meta.files[f]!.length > 0) {
      const found = record.flushed.nextSet(layout.firstPiece(f));
      if (!meta.files[f]!.pad && found >= 0 && found <= layout.lastPiece(f)) table.setMade(f);
    }
  }
}

function look(disk: Disk, record: ResumeRecord | null, mode: 'check' | 'trust', bootId: string): void {
  const { io, places, table } = disk;
  const files = table.dataFiles(places);
  if (places.partedCount === 0 && table.hasUnwanted) files.push(PART_FILE);
  table.look(io, places, files, () => {
    if (record !== null) claimByRecord(disk, record, bootId);
    else claimByLook(disk, mode);
  });
}

function claimByRecord(disk: Disk, record: ResumeRecord, bootId: string): void {
  const { meta, layout, places, table } = disk;
  const sameBoot = record.bootId === bootId && bootId !== '';
  const claimed = (record.clean || sameBoot ? record.flushed : record.synced).clone();
  const doubt = new Bitfield(layout.pieceCount);
  for (const piece of record.inDoubt) if (!claimed.get(piece)) doubt.set(piece);
  for (let p = record.flushed.nextSet(0); p >= 0; p = record.flushed.nextSet(p + 1)) if (!claimed.get(p)) doubt.set(p);
  const doubtRange = (from: number, to: number): void => {
    for (let p = claimed.nextSet(from); p >= 0 && p <= to; p = claimed.nextSet(p + 1)) {
      claimed.clear(p);
      doubt.set(p);
    }
  };
  for (let f = 0; record.clean && f < record.stamps.length / 2; f++) {
    const { pad, length } = meta.files[f]!;
    const size = record.stamps[f * 2]!;
    if (pad || length === 0 || size < -1) continue;
    const same = size === table.size(f) && (size < 0 || record.stamps[f * 2 + 1] === table.mtimeMs(f));
    if (!same) doubtRange(layout.firstPiece(f), layout.lastPiece(f));
  }
  if (places.partedCount > 0 && !table.exists(PART_FILE)) {
    // it goes once its last edge is moved out, which may be later than the record
    for (const file of places.partedFiles()) {
      for (const { piece } of places.extents(file)) doubtRange(piece, piece);
      places.setParted(file, false);
    }
  }
  table.clearUnreadable(claimed, places);
  table.clearUnreadable(doubt, places);
  const synced = record.synced.clone();
  for (let p = synced.nextSet(0); p >= 0; p = synced.nextSet(p + 1)) if (!claimed.get(p)) synced.clear(p);
  disk.restored(claimed, synced, list(doubt));
}

function claimByLook(disk: Disk, mode: 'check' | 'trust'): void {
  const { meta, layout, places, table } = disk;
  const claimed = new Bitfield(layout.pieceCount);
  const count = meta.files.length;
  // edges of unwanted files are in the part file unless the file itself is there
  for (let f = 0; table.hasUnwanted && f < count; f++) {
    if (table.isWanted(f) || meta.files[f]!.pad || meta.files[f]!.length === 0) continue;
    const parted = !table.exists(f) && table.exists(PART_FILE) && places.extents(f).length > 0;
    places.setParted(f, parted);
  }
  let found = table.exists(PART_FILE) && places.partedCount > 0;
  for (let f = 0; !found && f < count; f++) {
    if (!meta.files[f]!.pad && meta.files[f]!.length > 0 && table.size(f) > 0) found = true;
  }
  if (!found) return disk.restored(claimed, null, []);
  claimed.setAll();
  table.clearUnreadable(claimed, places);
  if (mode === 'trust') return disk.restored(claimed, null, []);
  const toHash = list(claimed);
  claimed.clearAll();
  disk.restored(claimed, null, toHash);
}

function list(bits: Bitfield): number[] {
  const found: number[] = [];
  for (let p = bits.nextSet(0); p >= 0; p = bits.nextSet(p + 1)) found.push(p);
  return found;
}
