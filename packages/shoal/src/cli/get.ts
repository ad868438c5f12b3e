/** `shoal get`: downloads, resumes, and with --seed goes on seeding. */

import { mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type AddOptions, type SessionOptions, ShoalError } from '@shoal/engine';
import { chooseView } from './choose-view.ts';
import { type DiscoveryOptions, discoverySettings } from './discovery-options.ts';
import { type ExitCode, UsageError } from './exit-code.ts';
import { sanitize } from './format.ts';
import { Interrupt } from './interrupt.ts';
import { type PeerWayOptions, peerWaySettings, wayNotes } from './network-options.ts';
import { type PortOptions, portSettings } from './port-options.ts';
import { type LoadedSource, loadSource } from './source.ts';
import { defaultStateFolder } from './state-folder.ts';
import { torrentTarget } from './torrent-target.ts';
import { transfer } from './transfer.ts';

export interface GetOptions extends DiscoveryOptions, PeerWayOptions, PortOptions {
  readonly output: string;
  readonly peer: readonly string[];
  readonly select?: readonly number[];
  readonly seed: boolean;
  readonly sequential: boolean;
  readonly down: number;
  readonly up: number;
  readonly port: number;
  readonly state?: string;
  readonly timeout?: number;
  readonly followEvery?: number;
  readonly saveTorrent?: string;
  readonly json: boolean;
}

export async function get(sources: readonly string[], options: GetOptions): Promise<ExitCode> {
  using interrupt = new Interrupt();
  const session = sessionOptions(options, resolve(options.state ?? defaultStateFolder()));
  // All are read before anything starts, so that a slip in the last does not leave the first half done.
  const loaded = await Promise.all(sources.map(loadSource));
  if (options.select !== undefined) checkSelection(loaded, options.select);
  const saveTo = await torrentTarget(options.saveTorrent, loaded.length);
  const folder = resolve(options.output);
  await makeFolder('-o', folder);
  await makeFolder('--state', session.state!, 0o700);
  const view = chooseView(options.json);
  for (const note of wayNotes(options)) view.note(note);
  const add: AddOptions = {
    folder,
    peers: options.peer,
    sequential: options.sequential,
    ...(options.select === undefined ? {} : { select: options.select }),
  };
  return await transfer({
    items: loaded.map(({ label, source, publisher }) => {
      const link = publisher === null ? null : String(source);
      const every = options.followEvery === undefined ? {} : { followEveryMs: options.followEvery };
      return { label, source, options: add, saveTo, publisher: link, ...every };
    }),
    session,
    view,
    interrupt,
    timeoutMs: options.timeout ?? null,
    mode: options.seed ? 'get-and-seed' : 'get',
  });
}

async function makeFolder(option: string, path: string, mode = 0o777): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code !== 'EEXIST' && code !== 'ENOTDIR') throw error;
    throw new ShoalError('disk', `${option}: ${sanitize(path)} is not a folder`);
  }
}

export function sessionOptions(
  options: DiscoveryOptions &
    PortOptions &
    PeerWayOptions & {
      readonly port: number;
      readonly up: number;
      readonly down?: number;
    },
  state: string | null,
): SessionOptions {
  return {
    ...discoverySettings(options),
    ...portSettings(options),
    ...peerWaySettings(options),
    port: options.port,
    state,
    stateLock: 'torrent',
    uploadLimit: options.up,
    downloadLimit: options.down ?? 0,
  };
}

/** Files are counted as `info` lists them, pads left out; a magnet's are known later, by the session. */
function checkSelection(loaded: readonly LoadedSource[], select: readonly number[]): void {
  if (loaded.length > 1) throw new UsageError('--select is about one torrent; give one SOURCE with it');
  const meta = loaded[0]?.meta;
  if (meta === null || meta === undefined) return;
  const count = meta.files.filter((file) => !file.pad).length;
  const beyond = select.find((index) => index >= count);
  if (beyond !== undefined) {
    throw new UsageError(`--select: there is no file ${beyond}; the torrent's files are 0 to ${count - 1}`);
  }
}
