/**
 * What is done with whole files: made empty, given their size, moved, removed, and edges moved out of the part file.
 *
 * Invariant: only files that this torrent made, or holds verified pieces of, are ever moved or removed; a file that is
 * there already is never emptied. Moves, removals and part moves run under a fence.
 */

import type { IoFault } from '../base/errors.ts';
import type { FileRef } from '../base/ports.ts';
import { BLOCK_BYTES } from '../base/slot-pool.ts';
import type { Disk } from './disk.ts';
import { Call } from './io.ts';
import { PART_FILE } from './part-file.ts';
import { Sweep } from './sweep.ts';

type Done = (fault: IoFault | null) => void;

/** Blocks copied at a time. */
const COPY_BLOCKS = 16;

/** Makes the wanted files of no length, and links. `done` comes at once when there are none. */
export function makeEmptyFiles(disk: Disk, done: Done): void {
  const { io, places, table } = disk;
  const { files } = disk.meta;
  const empty: number[] = [];
  for (let f = 0; f < files.length; f++) {
    if (!files[f]!.pad && files[f]!.length === 0 && table.isWanted(f)) empty.push(f);
  }
  missing(disk, empty, (absent) => {
    new Sweep(absent, {
      start(job, file) {
        const { symlink } = files[file]!;
        if (symlink === null) io.allocate(job, places.ref(file), 0, false);
        else io.link(job, places.ref(file), symlink);
      },
      each: (file, fault) => {
        if (fault === null) table.written(file);
      },
      done,
    }).run();
  });
}

/**
 * Gives the wanted files their size. With `full` those that are not there are filled with zeros; one that is there is
 * only made longer, since it may hold pieces. `done` comes at once when there are none.
 */
export function preallocate(disk: Disk, full: boolean, done: Done): void {
  const { io, places, table } = disk;
  const { files } = disk.meta;
  const wanted: number[] = [];
  for (let f = 0; f < files.length; f++) {
    if (!files[f]!.pad && files[f]!.length > 0 && table.isWanted(f)) wanted.push(f);
  }
  table.look(io, places, wanted, () => {
    const short = wanted.filter((f) => table.size(f) < files[f]!.length);
    new Sweep(short, {
      start: (job, file) => io.allocate(job, places.ref(file), files[file]!.length, full && !table.exists(file)),
      each: (file, fault) => {
        if (fault === null) table.written(file);
      },
      done,
    }).run();
  });
}

/** Moves the torrent's files and its part file below another folder: all or none. */
export function moveFiles(disk: Disk, newFolder: string, done: Done): void {
  present(disk, ownFiles(disk), (refs) => {
    disk.io.files.release(refs);
    if (refs.length === 0) return done(null);
    disk.io.move(new Call(done), refs, newFolder);
  });
}

/** Removes the torrent's files and its part file, then folders that are empty then. */
export function removeFiles(disk: Disk, done: Done): void {
  present(disk, ownFiles(disk), (refs) => {
    disk.io.files.release(refs);
    if (refs.length === 0) return done(null);
    disk.io.remove(new Call(done), refs);
  });
}

/**
 * Copies the edges of a file from the part file into the file and syncs it; then the file is parted no longer. What stays
 * in the part file is still right, should a record from before be used. `isWritten` says which blocks there are.
 */
export function moveParts(
  disk: Disk,
  file: number,
  isWritten: (piece: number, block: number) => boolean,
  done: Done,
): void {
  const { io, places, table } = disk;
  const steps: Step[] = [];
  for (const extent of places.extents(file)) addSteps(steps, disk, file, extent, isWritten);
  const buffer = new Uint8Array(COPY_BLOCKS * BLOCK_BYTES);
  const from = places.ref(PART_FILE);
  const to = places.ref(file);
  let next = 0;
  const finish = (): void => {
    places.setParted(file, false);
    if (places.partedCount > 0) return done(null);
    io.files.release([from]);
    io.remove(
      new Call(() => {
        table.setStamp(PART_FILE, null);
        done(null);
      }),
      [from],
    );
  };
  const copy = (): void => {
    const step = steps[next++];
    if (step === undefined) {
      if (steps.length === 0) return finish();
      table.written(file);
      return io.sync(new Call((fault) => (fault === null ? finish() : done(fault))), [to]);
    }
    const views = [buffer.subarray(0, step.length)];
    const written = new Call((fault) => (fault === null ? copy() : done(fault)));
    const read = new Call((fault) => {
      if (fault !== null) return done(fault);
      io.write(written, to, step.fileOffset, views);
    });
    io.read(read, from, step.partOffset, views);
  };
  copy();
}

interface Step {
  readonly partOffset: number;
  readonly fileOffset: number;
  length: number;
}

/** The runs of written blocks of one extent. */
function addSteps(
  steps: Step[],
  disk: Disk,
  file: number,
  extent: { piece: number; partOffset: number; fileOffset: number; length: number },
  isWritten: (piece: number, block: number) => boolean,
): void {
  const start = disk.meta.files[file]!.offset + extent.fileOffset - extent.piece * disk.meta.pieceLength;
  const end = start + extent.length;
  let at = start;
  let open: Step | null = null;
  while (at < end) {
    const block = Math.floor(at / BLOCK_BYTES);
    const length = Math.min((block + 1) * BLOCK_BYTES, end) - at;
    if (!isWritten(extent.piece, block)) open = null;
    else if (open !== null && open.length + length <= COPY_BLOCKS * BLOCK_BYTES) open.length += length;
    else {
      const shift = at - start;
      open = { partOffset: extent.partOffset + shift, fileOffset: extent.fileOffset + shift, length };
      steps.push(open);
    }
    at += length;
  }
}

/** The files this torrent made or holds verified pieces of, and its part file. */
function ownFiles(disk: Disk): number[] {
  const { flushed, layout, places, table } = disk;
  const { files } = disk.meta;
  const own: number[] = [PART_FILE];
  for (let f = 0; f < files.length; f++) {
    const { pad, length } = files[f]!;
    if (pad) continue;
    if (!table.isMade(f)) {
      if (length === 0 || places.isParted(f)) continue;
      const found = flushed.nextSet(layout.firstPiece(f));
      if (found < 0 || found > layout.lastPiece(f)) continue;
    }
    own.push(f);
  }
  return own;
}

/** Those of the files at whose name something stands. */
function present(disk: Disk, files: readonly number[], done: (refs: FileRef[]) => void): void {
  const refs: FileRef[] = [];
  new Sweep(files, {
    start: (job, file) => disk.io.stat(job, disk.places.ref(file)),
    each: (file, fault, stat) => {
      // links are looked at, not followed: one that this torrent made is its own
      if (fault === null && stat !== null && (stat.regular || isLink(disk, file))) refs.push(disk.places.ref(file));
    },
    done: () => done(refs),
  }).run();
}

/** Those of the files at whose name nothing stands. */
function missing(disk: Disk, files: readonly number[], done: (files: number[]) => void): void {
  const absent: number[] = [];
  new Sweep(files, {
    start: (job, file) => disk.io.stat(job, disk.places.ref(file)),
    each: (file, fault, stat) => {
      if (fault === null && stat === null) absent.push(file);
    },
    done: () => done(absent),
  }).run();
}

function isLink(disk: Disk, file: number): boolean {
  return file >= 0 && disk.meta.files[file]!.symlink !== null;
}
