/**
 * One torrent of a session: joins its swarm (who and what), disk (where), peer finder (whence), and its
 * record in the state store; owns its state.
 *
 *     metadata -> checking -> downloading -> seeding
 *        '------------'------------'------------'----> paused, error (resumable), stopped (final)
 *
 * Invariant: a record is written after what it claims; a stop writes one last record when the disk has drained. An idle
 * seed holds no picker, no caches and no timer.
 */

import type { Bitfield } from '../base/bitfield.ts';
import { toHex } from '../base/bytes.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { parseIp } from '../base/ip.ts';
import { Layout } from '../codec/layout.ts';
import { type Metainfo, parseInfo } from '../codec/metainfo.ts';
import { makeNamelessPeerId, makePeerId } from '../codec/peer-id.ts';
import { Disk, type DiskSink } from '../disk/disk.ts';
import type { OldFiles } from '../disk/reuse.ts';
import type { Peer } from '../swarm/peer.ts';
import { CandidateSource } from '../swarm/peer-book.ts';
import { Swarm } from '../swarm/swarm.ts';
import type { SwarmSink } from '../swarm/swarm-options.ts';
import { Limiter } from '../transport/limiter.ts';
import type { ExtendedHandshake } from '../wire/conversation-sink.ts';
import { Connections } from './connections.ts';
import type { SessionCore } from './core.ts';
import { DiskRecovery } from './disk-recovery.ts';
import type { EntryOptions } from './entry-options.ts';
import type { Link } from './link.ts';
import { PeerFinder } from './peer-finder.ts';
import { RecordKeeper } from './record-keeper.ts';
import { bytesIn, chosenFiles, piecePriorities, wantedBytes } from './selection.ts';
import type { TorrentState } from './types.ts';

export class Entry implements SwarmSink, DiskSink {
  readonly core: SessionCore;
  readonly options: EntryOptions;
  readonly number: number;
  readonly infoHash: Uint8Array | null;
  readonly infoHashV2: Uint8Array | null;
  readonly swarmHash: Uint8Array;
  /** By which it goes on the wire, 20 bytes each: of a hybrid torrent both, the v1 hash first. */
  wireHashes: readonly Uint8Array[];
  readonly peerId: Uint8Array;
  readonly finder: PeerFinder;
  readonly connections: Connections;
  readonly swarm: Swarm;
  /** Whose limits it shares, or null. */
  group: string | null;
  readonly downLimit: Limiter;
  readonly upLimit: Limiter;
  name: string;
  folder: string;
  /** Where the files are being moved to. */
  movingTo: string | null = null;
  meta: Metainfo | null = null;
  layout: Layout | null = null;
  disk: Disk | null = null;
  state: TorrentState = 'stopped';
  error: IoFault | null = null;
  /** Priority 0..7 per file; null: all alike. */
  priorities: Uint8Array | null;
  sequential: boolean;
  resumedBytes = 0;
  checkedPieces = 0;
  checkTotal = 0;

  #paused: boolean;
  #stopping = false;
  #touched = false;
  readonly #keeper: RecordKeeper;
  readonly #recovery: DiskRecovery;
  #complete = false;
  #trustedBytes = 0;
  #prepared = false;
  #stopListeners: Set<() => void> | null = null;
  /** The last record is written. */
  #ended = false;
  readonly #endListeners: (() => void)[] = [];

  constructor(core: SessionCore, options: EntryOptions) {
    this.core = core;
    this.options = options;
    this.number = core.nextEntryNumber++;
    this.infoHash = options.infoHash;
    this.infoHashV2 = options.infoHashV2;
    this.swarmHash = options.infoHash ?? options.infoHashV2!.slice(0, 20);
    this.wireHashes = wireHashesOf(options.infoHash, options.infoHashV2);
    this.name = options.name;
    this.folder = options.folder;
    this.peerId = newPeerId(core);
    this.sequential = options.sequential;
    this.priorities = null;
    this.#paused = options.paused;
    const above = options.group === null ? core.limits : core.limits.group(options.group);
    this.group = options.group;
    this.downLimit = new Limiter(options.downloadLimit, above.down);
    this.upLimit = new Limiter(options.uploadLimit, above.up);
    this.finder = new PeerFinder(this);
    this.connections = new Connections(this);
    this.swarm = new Swarm({
      infoHash: options.infoHash,
      infoHashV2: options.infoHashV2,
      slots: core.ports.slots,
      hasher: core.ports.hasher,
      rng: core.rng,
      sink: this,
      turn: core.turn,
      downLimit: this.downLimit,
      upLimit: this.upLimit,
      uploadSlots: core.options.uploadSlots,
      pex: core.options.pex,
    });
    this.swarm.sequential = options.sequential;
    this.#keeper = new RecordKeeper(this);
    this.#recovery = new DiskRecovery(this);
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** Begins: reads what is there, or goes looking for the metadata. */
  begin(): void {
    const { meta } = this.options;
    if (meta !== null) this.#adopt(meta);
    else {
      this.#go('metadata');
      this.touchRecord();
      this.finder.seek();
    }
  }

  /** From now on it is another peer. Who holds its id holds these bytes. */
  renewPeerId(): void {
    this.peerId.set(newPeerId(this.core));
  }

  pause(): void {
    if (this.#paused || this.state === 'stopped') return;
    this.#paused = true;
    this.#recovery.end();
    this.finder.leave();
    for (const peer of [...this.swarm.peers]) peer.link.close(PeerFault.Evicted, null);
    if (this.state !== 'checking') this.#go('paused');
    this.touchRecord();
  }

  resume(): void {
    if (!this.#paused && this.state !== 'error') return;
    this.#paused = false;
    this.disk?.letGo();
    this.#recovery.retry();
    this.touchRecord();
  }

  /** Hashes everything again. */
  recheck(): void {
    if (this.swarm.layout === null || this.state === 'checking') return;
    this.#go('checking');
    this.disk!.letGo();
    this.checkedPieces = 0;
    this.checkTotal = this.meta!.pieceCount;
    this.core.active.add(this);
    this.disk!.check(null);
  }

  /** Moves the data to another folder. */
  move(folder: string, done: (fault: IoFault | null) => void): void {
    // a kill in the middle finds the files at either place
    this.movingTo = folder;
    this.#keeper.save(false, null);
    this.disk!.move(folder, (fault) => {
      this.core.begin();
      this.movingTo = null;
      if (fault === null) this.folder = folder;
      this.touchRecord();
      done(fault);
    });
  }

  /** Deletes what it downloaded. `stop` follows. */
  removeData(done: (fault: IoFault | null) => void): void {
    if (this.disk === null) return done(null);
    this.disk.removeData((fault) => {
      this.core.begin();
      done(fault);
    });
  }

  /** Selects files by index (pads counted); null: all. */
  select(files: readonly number[] | null): void {
    const meta = this.meta!;
    const priorities = new Uint8Array(meta.files.length).fill(files === null ? 4 : 0);
    for (const file of files ?? []) priorities[file] = 4;
    this.setPriorities(priorities);
  }

  /** 0..7 per file; 0: not wanted. */
  setPriorities(priorities: Uint8Array): void {
    this.priorities = priorities;
    for (let f = 0; f < priorities.length; f++) this.disk?.setWanted(f, priorities[f]! > 0);
    if (this.state === 'checking') return;
    this.#complete = false;
    this.swarm.setPriorities(this.#piecePriorities());
    this.enter();
    this.touchRecord();
  }

  /** Shares the limits of this group from now on; null: of none. */
  setGroup(name: string | null): void {
    this.group = name;
    const above = name === null ? this.core.limits : this.core.limits.group(name);
    this.downLimit.setParent(above.down);
    this.upLimit.setParent(above.up);
    this.touchRecord();
  }

  setSequential(on: boolean): void {
    this.sequential = on;
    this.swarm.sequential = on;
    this.touchRecord();
  }

  /** Ends it: trackers hear so, connections close, the disk drains, a last record is written. */
  stop(done: () => void): void {
    if (this.#ended) return done();
    this.#endListeners.push(done);
    if (this.#stopping) return;
    this.#stopping = true;
    this.finder.leave();
    this.core.announces.forget(this);
    for (const listener of [...(this.#stopListeners ?? [])]) listener();
    this.swarm.stop();
    this.core.active.delete(this);
    const end = (): void => {
      this.#ended = true;
      for (const listener of this.#endListeners.splice(0)) listener();
    };
    if (this.disk === null) this.#keeper.save(true, end);
    else this.disk.stop((fault) => this.#keeper.save(fault === null, end));
    this.state = 'stopped';
  }

  // ----------------------------------------------------------------------------------------------------------- turns

  endTurn(now: number): void {
    this.#touched = false;
    this.disk?.tick(now);
    this.swarm.endTurn(now);
  }

  /** Every second while it is active. */
  tick(now: number): void {
    if (this.swarm.peers.length > 0 || this.state !== 'seeding' || !this.swarm.still) this.swarm.tick(now);
    this.disk?.tick(now);
    this.#recovery.tick(now);
    this.#keeper.tick(now);
    this.#settleActivity();
  }

  /** `nextAt` has come. */
  due(now: number): void {
    if (this.swarm.nextAt(now) <= now) this.swarm.resumeStarved();
    this.onTouched();
  }

  nextAt(now: number): number {
    return Math.min(this.swarm.nextAt(now), this.disk?.nextAt() ?? Infinity);
  }

  // ------------------------------------------------------------------------------------------------------- listening

  /** The session listens: trackers can be told a port. */
  listening(moved: boolean): void {
    this.finder.announcer.port = this.core.port;
    this.finder.announcer.mappedPort = this.core.mappedPort;
    const active = this.state === 'metadata' || this.state === 'downloading' || this.state === 'seeding';
    if (!active || this.#paused) return;
    this.finder.seek();
    if (moved) this.finder.again();
  }

  // ------------------------------------------------------------------------------------------------------ swarm sink

  onTouched(): void {
    if (this.#touched) return;
    this.#touched = true;
    this.core.touchedEntries.push(this);
    this.core.begin();
  }

  onMetadata(infoBytes: Uint8Array): void {
    let meta: Metainfo;
    try {
      meta = parseInfo(infoBytes, { trackers: this.options.trackers, webSeeds: this.options.webSeeds });
    } catch (error) {
      // it has the right hash: no peer is to blame, the torrent itself is broken
      return this.fail({ code: 'EBADTORRENT', message: error instanceof Error ? error.message : 'bad metadata' });
    }
    this.#adopt(meta);
  }

  onHashesDisagree(): void {
    this.fail({ code: 'EBADTORRENT', message: `${this.name}: its two info-hashes are of different torrents` });
  }

  onVerified(piece: number): void {
    // nothing more comes: small pieces need not wait for neighbours
    if (this.swarm.picker === null) this.disk!.flush();
    this.onTouched();
    this.options.sink.onVerified(this, piece);
  }

  onPieceFlushed(): void {
    this.#keeper.wrote();
    this.touchRecord();
  }

  onDone(): void {
    if (this.state === 'checking') return;
    this.enter();
  }

  onDiskFault(fault: IoFault): void {
    this.#recovery.failed(fault);
  }

  onDiskWorks(): void {
    this.#recovery.end();
    this.error = null;
    this.enter();
  }

  onReadFault(piece: number, fault: IoFault): void {
    this.#recovery.readFailed(piece, fault);
  }

  onPeerReady(peer: Peer, handshake: ExtendedHandshake): void {
    const ip = handshake.yourIp === null ? null : parseIp(handshake.yourIp);
    if (ip !== null) this.core.discovery.vote(ip, peer.link.remote.ip, 'peer');
    if (handshake.client !== null && !this.core.clients.allows(handshake.client)) peer.fault(PeerFault.Banned);
    const link = peer.link as Link;
    if (link.closed || link.candidate >= 0 || handshake.listenPort <= 0) return;
    link.candidate = this.finder.book.addIncoming(link.remote.ip, handshake.listenPort, this.core.turn.now);
  }

  onPeerPort(peer: Peer, port: number): void {
    this.core.discovery.addNode(peer.link.remote.ip, port);
  }

  onPexPeers(peers4: Uint8Array, _flags4: Uint8Array, peers6: Uint8Array, _flags6: Uint8Array, from: Peer): void {
    const { book } = this.finder;
    const { teller } = from.pex!;
    const added = book.addCompact(peers4, 4, CandidateSource.Pex, teller);
    if (added + book.addCompact(peers6, 16, CandidateSource.Pex, teller) > 0) this.core.dialSoon();
  }

  onHolepunch(ip: string, port: number): void {
    this.connections.punch(ip, port);
  }

  onBan(ip: string, why: string): void {
    this.core.rules.ban(ip, `${why} (${this.name})`);
    this.options.sink.onWarning(this, `banned ${ip}: it ${why}`);
  }

  // ------------------------------------------------------------------------------------------------------- disk sink

  onFlushed(piece: number): void {
    this.onTouched();
    this.swarm.onFlushed(piece);
    this.#keeper.flushed(this.layout!.pieceSize(piece));
  }

  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void {
    this.swarm.onRead(job, fault, slots, count);
  }

  onStoreHash(job: number, fault: IoFault | null, digest: Uint8Array): void {
    this.swarm.onStoreHash(job, fault, digest);
  }

  onStoreFault(fault: IoFault): void {
    this.swarm.onStoreFault(fault);
  }

  onRoom(): void {
    this.swarm.onRoom();
  }

  onWork(): void {
    this.onTouched();
  }

  onRestored(claimed: Bitfield, toHashCount: number): void {
    this.checkedPieces = 0;
    this.checkTotal = toHashCount;
    this.#trustedBytes = this.#bytesOf(claimed);
  }

  onChecked(): void {
    this.checkedPieces++;
  }

  onCheckDone(): void {
    const claimed = this.disk!.flushed.clone();
    if (this.swarm.layout === null) {
      this.resumedBytes = this.options.record === null ? this.#trustedBytes : this.#bytesOf(claimed);
      this.swarm.start(this.meta!, this.layout!, this.disk!, claimed, this.#piecePriorities());
    } else this.swarm.restart(claimed, this.disk!.unwritten());
    this.#complete = this.swarm.goal.unflushedCount === 0;
    this.touchRecord();
    this.enter();
    this.core.entryChecked();
  }

  onPartsMoved(_file: number, fault: IoFault | null): void {
    this.touchRecord();
    if (fault !== null) this.onDiskFault(fault);
  }

  // ----------------------------------------------------------------------------------------------------- what it says

  /** Bytes of the wanted files, pads left out. */
  bytesTotal(): number {
    return this.meta === null ? 0 : wantedBytes(this.meta, this.priorities);
  }

  /** Of these, verified and flushed. */
  bytesDone(): number {
    return this.swarm.flushed === null ? 0 : this.#bytesOf(this.swarm.flushed);
  }

  // ---------------------------------------------------------------------------------------------------------- record

  /** What the record says has changed. */
  touchRecord(): void {
    this.#keeper.touch();
    this.core.active.add(this);
  }

  /** The whole .torrent, made once. */
  torrentBytes(): Uint8Array {
    return this.meta!.torrentBytes();
  }

  get paused(): boolean {
    return this.#paused;
  }

  get isStopping(): boolean {
    return this.#stopping;
  }

  /** Calls back when it stops. Returns how to take that back. */
  onStop(listener: () => void): () => void {
    const listeners = this.#stopListeners ?? new Set();
    this.#stopListeners = listeners;
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  get key(): string {
    return toHex(this.infoHash ?? this.infoHashV2!);
  }

  // ----------------------------------------------------------------------------------------------- for its own parts

  /** Into the state that fits. */
  enter(): void {
    if (this.#stopping || this.swarm.layout === null) return;
    if (this.#paused) return this.#go('paused');
    if (this.error !== null) return this.#go('error');
    const complete = this.swarm.goal.unflushedCount === 0;
    if (!complete) {
      this.#prepare();
      this.#go('downloading');
    } else {
      if (!this.#complete && this.swarm.have!.isFull) this.finder.announcer.completed(this.core.turn.now);
      this.#complete = true;
      this.#prepare();
      if (this.state !== 'seeding') {
        this.#go('seeding');
        this.options.sink.onDone(this);
      }
    }
    this.finder.seek();
  }

  /** It cannot go on as it is. */
  fail(fault: IoFault): void {
    const known = this.state === 'error' && this.error?.code === fault.code;
    this.error = fault;
    if (this.state === 'checking' || this.#stopping) return;
    if (!this.#paused) this.#go('error');
    if (!known) this.options.sink.onError(this, fault);
  }

  // --------------------------------------------------------------------------------------------------------- private

  #adopt(meta: Metainfo): void {
    this.meta = meta;
    this.name = meta.name;
    this.layout = new Layout(meta);
    this.priorities = chosenFiles(meta, this.options);
    const { ports, readCache } = this.core;
    this.disk = new Disk({
      meta,
      layout: this.layout,
      folder: this.folder,
      files: ports.files,
      hasher: ports.hasher,
      slots: ports.slots,
      sink: this,
      readCache,
      partFileName: `.${this.key}.parts`,
    });
    if (meta.private) {
      this.core.discovery.shun(this);
      this.finder.becamePrivate();
    }
    const hashes = wireHashesOf(meta.infoHash, meta.infoHashV2);
    const isHybrid = hashes.length > this.wireHashes.length;
    this.core.rename(this, hashes);
    if (isHybrid) this.core.discovery.renamed(this);
    if (!meta.hasDigests) {
      // known by its link alone: which files there are can be told, but not whether a byte of them is right
      this.options.sink.onMetadata(this, meta);
      return this.fail({ code: 'EBADTORRENT', message: 'has no hashes of its pieces (v2); a .torrent file does' });
    }
    this.#go('checking');
    this.options.sink.onMetadata(this, meta);
    for (let f = 0; f < meta.files.length; f++) if (this.priorities?.[f] === 0) this.disk.setWanted(f, false);
    this.core.active.add(this);
    const { prelude } = this.options;
    if (prelude === null) return this.#look(null);
    prelude(meta, (old) => {
      this.core.begin();
      if (!this.#stopping) this.#look(old);
    });
  }

  /** Finds out what is on disk, with what may be taken over from another torrent. */
  #look(old: OldFiles | null): void {
    const { existing, record } = this.options;
    const restore = () => this.disk!.restore(record, existing, this.core.ports.state.bootId);
    if (old === null || (record !== null && record.flushed.length > 0)) restore();
    else this.disk!.reuse(old, restore);
  }

  /** Files that no piece has bytes of, and full preallocation; once. */
  #prepare(): void {
    if (this.#prepared) return;
    this.#prepared = true;
    const done = (fault: IoFault | null) => {
      if (fault === null) return;
      this.#prepared = false;
      this.onDiskFault(fault);
    };
    this.disk!.makeEmptyFiles(done);
    if (this.options.preallocate === 'full') this.disk!.preallocate(true, done);
  }

  #go(state: TorrentState): void {
    if (this.state === state) return;
    this.state = state;
    this.options.sink.onState(this, state);
  }

  /** An entry with nothing going on is not looked at until something comes in. */
  #settleActivity(): void {
    const idle = this.swarm.peers.length === 0 && this.connections.dialing === 0 && this.#keeper.isIdle;
    if (!idle || !this.swarm.still || this.#recovery.isDue || this.swarm.picker !== null) return;
    if (this.state !== 'seeding' && this.state !== 'paused') return;
    if (this.finder.book.candidateCount > 0 && !this.#paused) return;
    this.core.active.delete(this);
  }

  #piecePriorities(): Uint8Array | null {
    return piecePriorities(this.meta!, this.layout!, this.priorities, this.options.firstAndLast);
  }

  #bytesOf(pieces: Bitfield): number {
    return bytesIn(this.meta!, this.layout!, this.priorities, pieces);
  }
}

function wireHashesOf(v1: Uint8Array | null, v2: Uint8Array | null): Uint8Array[] {
  const hashes: Uint8Array[] = [];
  if (v1 !== null) hashes.push(v1);
  if (v2 !== null) hashes.push(v2.slice(0, 20));
  return hashes;
}

function newPeerId(core: SessionCore): Uint8Array {
  return core.options.anonymous ? makeNamelessPeerId(core.rng) : makePeerId(core.rng);
}
