/**
 * The engine's real session on a machine of the world, with one torrent: opens the state, reads the record there, adds
 * the torrent, as the public Session does with promises. A crash forgets this object; the next one starts from the disk.
 */

import { Bitfield } from '../src/base/bitfield.ts';
import { toHex } from '../src/base/bytes.ts';
import type { IoFault } from '../src/base/errors.ts';
import { parseTorrent } from '../src/codec/metainfo.ts';
import type { PortMapMethod } from '../src/discovery/port-map.ts';
import { decodeRecord } from '../src/disk/resume.ts';
import { type CoreOptions, SessionCore } from '../src/session/core.ts';
import type { CoreDhtOptions } from '../src/session/discovery.ts';
import type { Entry } from '../src/session/entry.ts';
import type { EntrySink } from '../src/session/entry-options.ts';
import type { EncryptionPolicy, TorrentState, TransportPolicy } from '../src/session/types.ts';
import { CandidateSource } from '../src/swarm/peer-book.ts';
import type { SimNode } from './node.ts';
import type { SimTorrent } from './torrent.ts';

export interface SimSessionOptions {
  readonly port?: number;
  readonly uploadLimit?: number;
  readonly downloadLimit?: number;
  readonly maxConnections?: number;
  readonly uploadSlots?: number;
  /** Starts from the info-hash alone. */
  readonly magnet?: boolean;
  readonly sequential?: boolean;
  readonly existing?: 'check' | 'trust';
  /** "ip:port", besides those that trackers name. */
  readonly peers?: readonly { readonly ip: string; readonly port: number }[];
  /** False: knows no tracker, only `peers` and whom they tell of. Default true. */
  readonly trackers?: boolean;
  readonly dht?: CoreDhtOptions | null;
  readonly pex?: boolean;
  readonly lsd?: boolean;
  readonly anonymous?: boolean;
  readonly portMap?: readonly PortMapMethod[];
  readonly encryption?: EncryptionPolicy;
  readonly transport?: TransportPolicy;
  readonly log?: (line: string) => void;
}

/** What a session waits for trackers to hear its good-bye. */
const GOODBYE_MS = 2000;
/** Where every session of the simulation keeps its torrent. */
export const SIM_FOLDER = '/d';

export class SimSession implements EntrySink {
  readonly node: SimNode;
  readonly torrent: SimTorrent;
  readonly options: SimSessionOptions;
  readonly core: SessionCore;
  /** Null until the record was read. */
  entry: Entry | null = null;
  readonly warnings: string[] = [];
  readonly errors: string[] = [];
  readonly states: TorrentState[] = [];
  /** World time when it was complete, -1 before. */
  doneAtMs = -1;
  stopped = false;
  /** Pieces that it claimed and that stood right on disk then: a checker's note. */
  readonly checkedClaims: Bitfield;

  /** Boots the node. */
  constructor(node: SimNode, torrent: SimTorrent, options: SimSessionOptions = {}) {
    this.node = node;
    this.torrent = torrent;
    this.options = options;
    this.checkedClaims = new Bitfield(torrent.pieceCount);
    const core: CoreOptions = {
      port: options.port ?? 6881,
      listenWhenChecked: false,
      bind: ['0.0.0.0'],
      interfaceName: null,
      clientRules: [],
      maxConnections: options.maxConnections ?? 200,
      uploadSlots: options.uploadSlots ?? 8,
      downloadLimit: options.downloadLimit ?? 0,
      uploadLimit: options.uploadLimit ?? 0,
      limitLan: true,
      limitOverhead: false,
      dht: options.dht ?? null,
      pex: options.pex ?? false,
      lsd: options.lsd ?? false,
      portMap: options.portMap ?? [],
      encryption: options.encryption ?? 'off',
      transport: options.transport ?? 'tcp',
      proxy: null,
      anonymous: options.anonymous ?? false,
      announceMode: 'tier',
      log: options.log ?? null,
    };
    this.core = new SessionCore(core, node.boot(), {
      onListening: () => {},
      onListenFault: () => {},
      onListened: () => {},
    });
    this.core.listen();
    const { state } = this.core.ports;
    state.open((fault) => {
      if (fault !== null) throw new Error(fault.message);
      state.load(torrent.infoHashHex, (failed, bytes) => this.#add(failed === null ? bytes : null));
    });
  }

  get isDone(): boolean {
    return this.entry !== null && this.entry.state === 'seeding';
  }

  /** An orderly end; the node is free to boot again after `done`. */
  stop(done: () => void): void {
    this.core.stopListening();
    const end = (): void => {
      this.core.ports.state.close(() => {
        this.stopped = true;
        this.core.ports.close(done);
      });
    };
    if (this.entry === null) end();
    else this.entry.stop(() => this.#farewell(end));
  }

  // ---- entry sink

  onState(_entry: Entry, state: TorrentState): void {
    this.states.push(state);
  }

  onMetadata(): void {}

  onVerified(): void {}

  onDone(): void {
    this.doneAtMs = this.node.world.now;
  }

  onError(_entry: Entry, fault: IoFault): void {
    this.errors.push(fault.code);
  }

  onWarning(_entry: Entry, message: string): void {
    this.warnings.push(message);
  }

  /** Waits for the last announces, but not for long. */
  #farewell(then: () => void): void {
    const { announces } = this.core;
    if (announces.requestCount === 0) {
      then();
      return;
    }
    const cancel = this.core.alarm(GOODBYE_MS, () => {
      announces.abortAll();
      then();
    });
    announces.onIdle = (): void => {
      cancel();
      then();
    };
  }

  #add(bytes: Uint8Array | null): void {
    const { torrent, options } = this;
    const record = bytes === null ? null : decodeRecord(bytes);
    const known = record?.torrent ?? (options.magnet ? null : torrent.bytes);
    const meta = known === null ? null : parseTorrent(known);
    if (meta !== null && toHex(meta.infoHash!) !== torrent.infoHashHex)
      throw new Error('another torrent than asked for');
    this.entry = this.core.add({
      meta,
      infoHash: torrent.infoHash,
      infoHashV2: null,
      name: torrent.name,
      folder: SIM_FOLDER,
      trackers: (options.trackers ?? true) ? torrent.trackers.map((url) => [url]) : [],
      trackersEdited: false,
      webSeeds: [],
      select: null,
      selectSkipsPads: false,
      priorities: null,
      sequential: options.sequential ?? false,
      firstAndLast: false,
      preallocate: 'sparse',
      existing: options.existing ?? 'check',
      downloadLimit: 0,
      uploadLimit: 0,
      group: null,
      paused: false,
      record,
      prelude: null,
      sink: this,
    });
    this.entry.begin();
    for (const peer of options.peers ?? []) this.entry.finder.addPeer(peer.ip, peer.port, CandidateSource.Manual);
  }
}
