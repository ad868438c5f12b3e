/** `shoal seed`: checks what is there and gives it to whoever asks. It writes nothing into PATH. */

import { type AddOptions, locateContent } from '@shoal/engine';
import { chooseView } from './choose-view.ts';
import type { DiscoveryOptions } from './discovery-options.ts';
import { ExitCode, UsageError } from './exit-code.ts';
import { sanitize } from './format.ts';
import { sessionOptions } from './get.ts';
import { Interrupt } from './interrupt.ts';
import { type PeerWayOptions, wayNotes } from './network-options.ts';
import type { PortOptions } from './port-options.ts';
import { loadSource } from './source.ts';
import { torrentTarget } from './torrent-target.ts';
import { transfer } from './transfer.ts';

export interface SeedOptions extends DiscoveryOptions, PeerWayOptions, PortOptions {
  readonly peer: readonly string[];
  readonly port: number;
  readonly up: number;
  readonly saveTorrent?: string;
  readonly json: boolean;
}

export async function seed(torrent: string, path: string, options: SeedOptions): Promise<ExitCode> {
  using interrupt = new Interrupt(ExitCode.Done);
  const session = sessionOptions(options, null);
  const loaded = await loadSource(torrent);
  if (loaded.meta === null) throw new UsageError(`'${loaded.label}' is not a .torrent file; seed needs one`);
  const place = await locateContent(loaded.meta, path);
  if (place.renamed) {
    const wanted = sanitize(loaded.meta.files[0]?.path[0] ?? loaded.meta.name);
    throw new UsageError(
      `${sanitize(path)} is called '${wanted}' in the torrent; rename it, or give a folder that holds it`,
    );
  }
  const saveTo = await torrentTarget(options.saveTorrent, 1);
  const add: AddOptions = { folder: place.folder, peers: options.peer, existing: 'check' };
  const view = chooseView(options.json);
  for (const note of wayNotes(options)) view.note(note);
  return await transfer({
    items: [{ label: loaded.label, source: loaded.source, options: add, saveTo, publisher: null }],
    session: { ...session, listen: 'when-checked' },
    view,
    interrupt,
    timeoutMs: null,
    mode: 'seed',
  });
}
