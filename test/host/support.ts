/** Helpers of the host's tests: promises around the ports' callbacks, temporary folders, events that can be awaited. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { IoFault } from '../../packages/engine/dist/src/base/errors.js';
import type { FileRef, FileStat, Files } from '../../packages/engine/dist/src/base/ports.js';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A folder that goes when the file's tests are over. */
export function tempFolder(below: string = tmpdir()): string {
  const folder = mkdtempSync(join(below, 'shoal-host-'));
  folders.push(folder);
  return folder;
}

/** What a sink was told, and a way to await more of it. */
export class Log<T> {
  readonly all: T[] = [];
  #wake: (() => void)[] = [];

  add(entry: T): void {
    this.all.push(entry);
    for (const wake of this.#wake.splice(0)) wake();
  }

  async until(condition: (all: readonly T[]) => boolean): Promise<void> {
    while (!condition(this.all)) await new Promise<void>((resolve) => this.#wake.push(resolve));
  }
}

export interface FileOutcome {
  fault: IoFault | null;
  bytes: number;
}

/** Calls a file operation and fails when the sink is called from inside the call. */
function ask(
  call: (sink: { onFile(job: number, fault: IoFault | null, bytes: number): void }) => void,
): Promise<FileOutcome> {
  return new Promise((resolve, reject) => {
    let inside = true;
    call({
      onFile(_job, fault, bytes) {
        if (inside) reject(new Error('sink called from inside the call'));
        resolve({ fault, bytes });
      },
    });
    inside = false;
  });
}

export class FilesDriver {
  readonly files: Files;

  constructor(files: Files) {
    this.files = files;
  }

  write(file: FileRef, offset: number, views: readonly Uint8Array[]): Promise<FileOutcome> {
    return ask((sink) => this.files.write(1, file, offset, views, sink));
  }

  read(file: FileRef, offset: number, views: readonly Uint8Array[]): Promise<FileOutcome> {
    return ask((sink) => this.files.read(1, file, offset, views, sink));
  }

  sync(files: readonly FileRef[]): Promise<FileOutcome> {
    return ask((sink) => this.files.sync(1, files, sink));
  }

  allocate(file: FileRef, size: number, full: boolean): Promise<FileOutcome> {
    return ask((sink) => this.files.allocate(1, file, size, full, sink));
  }

  link(file: FileRef, target: readonly string[]): Promise<FileOutcome> {
    return ask((sink) => this.files.link(1, file, target, sink));
  }

  remove(files: readonly FileRef[]): Promise<FileOutcome> {
    return ask((sink) => this.files.remove(1, files, sink));
  }

  move(files: readonly FileRef[], newRoot: string): Promise<FileOutcome> {
    return ask((sink) => this.files.move(1, files, newRoot, sink));
  }

  copy(from: FileRef, to: FileRef): Promise<FileOutcome> {
    return ask((sink) => this.files.copy(1, from, to, sink));
  }

  stat(file: FileRef): Promise<{ fault: IoFault | null; stat: FileStat | null }> {
    return new Promise((resolve) => {
      this.files.stat(1, file, { onStat: (_job, fault, stat) => resolve({ fault, stat }) });
    });
  }
}
