/**
 * The brain of one torrent: its peers, what is had and wanted, and the parts that decide (requests, intake, uploads,
 * choker, metadata). Every event of a torrent that concerns more than one peer is a method here.
 *
 * Life: made with an info-hash; `start` gives it metadata, layout, store and what is claimed; `stop` ends it. Before
 * `start` peers may be attached (state metadata): what they have is kept raw and replayed.
 *
 * Owns: `have` (verified). Flushed is the store's fact, kept here as `flushed` since peers ask; only `onFlushed` sets it.
 */

import { assert } from '../base/assert.ts';
import type { Bitfield } from '../base/bitfield.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { Meter } from '../base/meter.ts';
import type { Hasher, PieceStore, PieceStoreSink } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import { BLOCK_BYTES, type SlotPool } from '../base/slot-pool.ts';
import type { Layout } from '../codec/layout.ts';
import type { Metainfo } from '../codec/metainfo.ts';
import { Limiter } from '../transport/limiter.ts';
import type { ExtendedHandshake } from '../wire/conversation-sink.ts';
import { Blame } from './blame.ts';
import { Choker } from './choker.ts';
import { Goal } from './goal.ts';
import { Holepunch } from './holepunch.ts';
import { Intake } from './intake.ts';
import { MetadataFetch } from './metadata-fetch.ts';
import { type Partial, Partials } from './partials.ts';
import { Peer, type PeerLink } from './peer.ts';
import { PexExchange } from './pex.ts';
import { Picker } from './picker.ts';
import { Readers } from './reader.ts';
import { Requests } from './requests.ts';
import { retire } from './retire.ts';
import { StoreHealth } from './store-health.ts';
import { Supply } from './supply.ts';
import type { SwarmOptions, SwarmSink } from './swarm-options.ts';
import { Takers } from './takers.ts';
import { Uploads } from './uploads.ts';

/** Pieces of more than this many blocks (4 MiB) are hashed and written while they arrive. */
const STREAMING_BLOCKS = 256;
/** Part of the slots that downloads leave to uploads and disk. */
const RESERVE_SHARE = 1 / 8;

export class Swarm implements PieceStoreSink {
  readonly slots: SlotPool;
  readonly hasher: Hasher;
  readonly rng: Rng;
  readonly peers: Peer[] = [];
  readonly down: Meter = new Meter();
  readonly up: Meter = new Meter();
  readonly slotReserve: number;
  /** Bytes that one peer may have read for it and not taken yet. */
  readonly uploadShare: number;

  meta: Metainfo | null = null;
  layout: Layout | null = null;
  store: PieceStore | null = null;
  have: Bitfield | null = null;
  flushed: Bitfield | null = null;
  /** Null while nothing wanted is missing. */
  picker: Picker | null = null;
  readonly goal: Goal = new Goal();
  readonly supply: Supply = new Supply(this);
  readonly storeHealth: StoreHealth;

  sequential = false;
  /** Only ever set; see `becomePrivate`. */
  isPrivate = false;
  /** Requests a peer may have out now: the memory, shared out. */
  windowLimit = 16;
  wasted = 0;
  hashFails = 0;
  spilled = 0;
  /** Null while there is nobody, and when it is off. */
  pex: PexExchange | null = null;

  readonly #options: SwarmOptions;
  // an idle seed has none of these
  #partials: Partials | null = null;
  #requests: Requests | null = null;
  #intake: Intake | null = null;
  #uploads: Uploads | null = null;
  #readers: Readers | null = null;
  #blame: Blame | null = null;
  #choker: Choker<Peer> | null = null;
  #metadata: MetadataFetch | null = null;
  #holepunch: Holepunch | null = null;
  #takers: Takers | null = null;
  readonly #sink: SwarmSink;
  readonly #turn: { readonly now: number };
  readonly #downLimit: Limiter;
  readonly #upLimit: Limiter;
  readonly #touched: Peer[] = [];
  #nextNumber = 0;
  #stopped = false;
  #hasPads = false;
  /** A request waits for the rate limit, not for a slot. */
  #rateStarved = false;
  #resumedMs = Number.NEGATIVE_INFINITY;
  #pexOn: boolean;

  constructor(options: SwarmOptions) {
    this.slots = options.slots;
    this.hasher = options.hasher;
    this.rng = options.rng;
    this.#sink = options.sink;
    this.storeHealth = new StoreHealth(this, options.sink);
    this.#turn = options.turn;
    this.#downLimit = options.downLimit;
    this.#upLimit = options.upLimit;
    this.slotReserve = Math.floor(options.slots.count * RESERVE_SHARE);
    // one more for those who are choked and served all the same (allowed fast)
    this.uploadShare = Uploads.share(options.slots.count, options.uploadSlots + 1);
    this.#options = options;
    this.#pexOn = options.pex;
  }

  // --------------------------------------------------------------------------------------- parts, made when first used

  get partials(): Partials {
    this.#partials ??= new Partials();
    return this.#partials;
  }

  get holepunch(): Holepunch {
    this.#holepunch ??= new Holepunch(this.peers, this.#sink);
    return this.#holepunch;
  }

  get requests(): Requests {
    this.#requests ??= new Requests(this);
    return this.#requests;
  }

  get intake(): Intake {
    this.#intake ??= new Intake(this);
    return this.#intake;
  }

  get uploads(): Uploads {
    this.#uploads ??= new Uploads(this);
    return this.#uploads;
  }

  get readers(): Readers {
    this.#readers ??= new Readers(this);
    return this.#readers;
  }

  get blame(): Blame {
    this.#blame ??= new Blame(this);
    return this.#blame;
  }

  get choker(): Choker<Peer> {
    this.#choker ??= new Choker(this.#options.uploadSlots, this.rng);
    return this.#choker;
  }

  get metadata(): MetadataFetch {
    if (this.#metadata === null) {
      const { infoHash, infoHashV2, sink } = this.#options;
      this.#metadata = new MetadataFetch(infoHash, infoHashV2, sink);
      if (this.meta !== null) this.#metadata.provide(this.meta.infoBytes);
    }
    return this.#metadata;
  }

  /** Pieces being downloaded; asking makes nothing. */
  get openPartials(): readonly Partial[] {
    return this.#partials === null ? NONE_OPEN : this.#partials.list;
  }

  // ------------------------------------------------------------------------------------------------------ commands

  /** The torrent is known and checked: `claimed` pieces are flushed. Priorities 0..7 per piece, null: all alike. */
  start(meta: Metainfo, layout: Layout, store: PieceStore, claimed: Bitfield, priorities: Uint8Array | null): void {
    assert(this.layout === null, 'a swarm started twice');
    this.meta = meta;
    this.layout = layout;
    this.store = store;
    this.#hasPads = meta.files.some((file) => file.pad);
    this.have = claimed;
    this.flushed = claimed.clone();
    this.#metadata?.provide(meta.infoBytes);
    if (meta.private) this.becomePrivate();
    this.setPriorities(priorities);
    for (const peer of [...this.peers]) this.supply.meet(peer);
  }

  /** Which pieces are wanted, and how much: 0..7 each. Null: all alike. */
  setPriorities(priorities: Uint8Array | null): void {
    this.goal.priorities = priorities;
    if (this.have === null) return;
    if (this.goal.recount(this.have, this.flushed!) === 0) this.picker = null;
    else this.#makePicker();
    for (const partial of [...this.openPartials]) {
      if (!this.goal.wants(partial.piece) && !partial.judging) this.abandon(partial);
    }
    for (const peer of this.peers) this.supply.recount(peer);
    this.#checkDone();
  }

  /** The peer of a link whose handshake is complete. The link says its extension handshake, then `attach`es it. */
  prepare(link: PeerLink, now: number): Peer {
    return new Peer(this, link, this.#nextNumber++, now);
  }

  attach(peer: Peer): void {
    const { link } = peer;
    this.peers.push(peer);
    link.conversation.sink = peer;
    this.#shareMemory();
    if (this.#pexOn) {
      this.pex ??= new PexExchange(this.#sink, this.rng);
      this.pex.attach(peer, this.now);
    }
    this.supply.meet(peer);
    this.wake(peer);
  }

  /** The link of the peer is closed. */
  detach(peer: Peer): void {
    if (peer.closed) return;
    peer.closed = true;
    this.requests.forget(peer);
    this.metadata.forget(peer);
    this.blame.left(peer);
    this.peers.splice(this.peers.indexOf(peer), 1);
    this.supply.left(peer);
    peer.uploads.free();
    peer.downShare?.close();
    peer.upShare?.close();
    if (this.peers.length === 0) this.pex = null;
    else this.pex?.detach(peer, this.now);
    this.#shareMemory();
    for (const other of this.peers) this.wake(other);
  }

  /**
   * The torrent is private (BEP 27), known before `start` where a magnet turned out so: its peers are neither told of nor
   * heard of from each other.
   */
  becomePrivate(): void {
    this.isPrivate = true;
    this.holepunch.isOff = true;
    this.#pexOn = false;
    this.pex = null;
    for (const peer of this.peers) {
      peer.pex = null;
      peer.conversation.withdrawOffers();
    }
  }

  /** What is on disk turned out to be this (a recheck): everybody is met anew. */
  restart(claimed: Bitfield, unwritten: readonly number[]): void {
    this.#empty();
    this.have = claimed;
    this.flushed = claimed.clone();
    for (const piece of unwritten) this.have.set(piece);
    this.setPriorities(this.goal.priorities);
  }

  stop(): void {
    this.#stopped = true;
    this.#empty();
    this.#readers?.stop();
  }

  // ---------------------------------------------------------------------------------------------------------- turns

  /** The peer may be asked for more, or served: looked at when the turn ends. */
  wake(peer: Peer): void {
    if (peer.awake || peer.closed) return;
    peer.awake = true;
    this.#touched.push(peer);
    if (this.#touched.length === 1) this.#sink.onTouched();
  }

  endTurn(now: number): void {
    for (let i = 0; i < this.#touched.length; i++) {
      const peer = this.#touched[i]!;
      peer.awake = false;
      if (peer.closed) continue;
      if (peer.uploads.count > 0 || peer.uploadsPaused) this.uploads.serve(peer, now);
      if (this.layout === null) this.metadata.ask(peer, now);
      else if (peer.wantedCount > 0) this.requests.refill(peer, now);
    }
    this.#touched.length = 0;
    if (this.#requests?.starved && this.slots.freeCount <= this.slotReserve && this.intake.spill()) {
      this.#requests.starved = false;
    }
  }

  /** When rate limits let something go on that waits for them; Infinity: nothing waits. */
  nextAt(now: number): number {
    let at = Infinity;
    if (this.#rateStarved) at = Math.min(at, this.#downLimit.nextAt(now));
    if (this.#uploads?.starved) at = Math.min(at, this.#upLimit.nextAt(now));
    // who is first in line may not come any more: then the others ask until his place is given away
    return Math.max(at, this.#resumedMs + 1);
  }

  /** Slots or rate came back: who was left waiting is looked at again. */
  resumeStarved(): void {
    if (!this.#requests?.starved && !this.#uploads?.starved && !this.#rateStarved) return;
    this.#resumedMs = this.now;
    this.requests.starved = false;
    this.#rateStarved = false;
    this.uploads.starved = false;
    for (const peer of this.peers) this.wake(peer);
  }

  /** Every second. */
  tick(now: number): void {
    this.down.tick(now);
    this.up.tick(now);
    this.storeHealth.tick();
    if (this.layout === null) this.#metadata?.sweep(this.peers, now);
    this.#takers ??= new Takers();
    for (const peer of [...this.peers]) {
      peer.down.tick(now);
      peer.up.tick(now);
      this.requests.sweep(peer, now);
      if (this.meta !== null && this.#takers.judge(peer, this.meta.length)) {
        this.ban(peer.link.remote.ip, 'took more than it lacked, and reported none of it');
      }
      retire(this, peer, now);
      if (!peer.closed) this.wake(peer);
    }
    // not before the metadata says that it is public
    if (this.layout !== null) this.pex?.tick(this.peers, now);
    this.#rechoke(now);
    this.resumeStarved();
  }

  // ------------------------------------------------------------------------------------------------ from the peers

  interestChanged(peer: Peer): void {
    const wants = peer.conversation.peerInterested && !peer.uploadOnly;
    if (!wants || this.have === null) return;
    if (this.choker.onInterested(this.now, peer, this.peers)) this.uploads.unchoke(peer, this.now);
  }

  extended(peer: Peer, handshake: ExtendedHandshake): void {
    this.pex?.extended(peer);
    this.#sink.onPeerReady(peer, handshake);
    this.wake(peer);
  }

  /** The peer has a DHT node there (BEP 5). */
  portNamed(peer: Peer, port: number): void {
    if (port > 0 && !this.isPrivate) this.#sink.onPeerPort(peer, port);
  }

  /** Nothing more is taken from this address. */
  ban(ip: string, why: string): void {
    this.#sink.onBan(ip, why);
    for (const peer of [...this.peers]) {
      if (peer.link.remote.ip !== ip) continue;
      this.intake.distrust(peer.number);
      peer.fault(PeerFault.Corrupt);
    }
  }

  countDown(peer: Peer, bytes: number): void {
    peer.down.add(bytes);
    this.down.add(bytes);
    peer.lastUsefulMs = this.now;
    if (!peer.snubbed) return;
    peer.snubbed = false;
  }

  countUp(bytes: number): void {
    this.up.add(bytes);
  }

  // --------------------------------------------------------------------------------------------------------- pieces

  /** Monotonic time of this turn. */
  get now(): number {
    return this.#turn.now;
  }

  /** Nothing came or went in the last seconds: the rates are 0. */
  get still(): boolean {
    return this.down.idle && this.up.idle;
  }

  get requesting(): boolean {
    return this.picker !== null && !this.storeHealth.broken && !this.#stopped;
  }

  /** So much waits for the disk that asking for more would only fill the memory. */
  get backlogged(): boolean {
    return this.store!.pendingSlots > this.slots.count >> 2;
  }

  /** Whether the memory can hold a new partial of this piece to its end. */
  fits(piece: number): boolean {
    const count = this.layout!.blockCount(piece);
    if (count <= STREAMING_BLOCKS) return this.partials.needCount + count <= this.slots.freeCount - this.slotReserve;
    // a large piece is written as it comes: a few at a time, so that what arrives in order has room
    let streaming = 0;
    for (const partial of this.partials.list) if (partial.streaming) streaming++;
    return streaming < Math.max(2, this.slots.count >> 9);
  }

  openPartial(piece: number, owner: number, now: number): Partial {
    const layout = this.layout!;
    const count = layout.blockCount(piece);
    this.picker!.open(piece);
    const partial = this.partials.open(piece, count, owner, count > STREAMING_BLOCKS, now);
    if (this.#hasPads) this.#fillPads(partial);
    return partial;
  }

  /** What came of the piece is dropped. */
  abandon(partial: Partial): void {
    this.intake.drop(partial);
    this.reopenPiece(partial.piece);
  }

  /** The piece is missing again. */
  reopenPiece(piece: number): void {
    this.picker?.reopen(piece);
    for (const peer of this.peers) if (peer.has?.get(piece)) this.wake(peer);
  }

  pieceVerified(piece: number): void {
    this.have!.set(piece);
    this.picker?.have(piece);
    this.supply.verified(piece);
    if (this.picker?.wantedLeft === 0) this.picker = null;
    this.#readers?.pieceVerified(piece);
    this.#sink.onVerified(piece);
  }

  onFlushed(piece: number): void {
    if (!this.flushed!.set(piece)) return;
    this.goal.flushed(piece);
    this.#sink.onPieceFlushed(piece);
    this.storeHealth.wrote();
    this.resumeStarved();
    this.#checkDone();
  }

  onRead(job: number, fault: IoFault | null, slots: Int32Array, count: number): void {
    if (job > 0) this.uploads.onRead(job, fault, slots, count);
    else this.readers.onRead(job, fault, slots, count);
  }

  onStoreHash(job: number, fault: IoFault | null, digest: Uint8Array): void {
    this.intake.onStoreHash(job, fault, digest);
  }

  onRoom(): void {
    this.resumeStarved();
  }

  onStoreFault(fault: IoFault): void {
    this.storeHealth.failed(fault);
  }

  /** A piece we claimed cannot be read. */
  readFault(piece: number, fault: IoFault): void {
    this.#sink.onReadFault(piece, fault);
  }

  /** A piece that was announced is not had any more (BEP 54). */
  lose(piece: number): void {
    if (!this.have!.clear(piece)) return;
    this.store!.forget(piece);
    if (this.flushed!.clear(piece)) this.goal.unflushed(piece);
    if (this.picker === null) this.#makePicker();
    else this.picker.unhave(piece);
    for (const peer of [...this.peers]) {
      if (peer.conversation.supports.dontHave) {
        peer.conversation.dontHave(piece);
        peer.link.touch();
      } else peer.link.close(PeerFault.Evicted, null);
      this.supply.recount(peer);
    }
  }

  // --------------------------------------------------------------------------------------------------------- limits
  // each peer is served in turn, so that neither who came first nor who answers soonest (TCP, beside uTP) has it all

  grantDown(peer: Peer, now: number): boolean {
    if (peer.link.unlimited === true) return true;
    if (this.#downLimit.limits) peer.downShare ??= new Limiter(0, this.#downLimit);
    const limit = peer.downShare ?? this.#downLimit;
    if (limit.grant(now, BLOCK_BYTES) > 0) {
      this.#wakeNext(this.#downLimit.nextInLine(now));
      return true;
    }
    this.#rateStarved = true;
    return false;
  }

  /** How many of `blocks` blocks may be sent now. */
  grantUp(peer: Peer, now: number, blocks: number): number {
    if (peer.link.unlimited === true) return blocks;
    if (this.#upLimit.limits) peer.upShare ??= new Limiter(0, this.#upLimit);
    const limit = peer.upShare ?? this.#upLimit;
    const granted = Math.floor(limit.grant(now, blocks * BLOCK_BYTES) / BLOCK_BYTES);
    if (granted === 0) this.uploads.starved = true;
    else this.#wakeNext(this.#upLimit.nextInLine(now));
    return granted;
  }

  /** Who was refused because another was first asks again in the same turn. */
  #wakeNext(share: Limiter | null): void {
    if (share === null) return;
    const peer = this.peers.find(({ downShare, upShare }) => downShare === share || upShare === share);
    if (peer !== undefined) this.wake(peer);
  }

  /** Counts bytes that are sent beyond what was granted. */
  spendUp(peer: Peer, now: number, bytes: number): void {
    if (bytes > 0 && peer.link.unlimited !== true) this.#upLimit.spend(now, bytes);
  }

  // -------------------------------------------------------------------------------------------------------- private

  #empty(): void {
    for (const peer of [...this.peers]) peer.link.close(PeerFault.Evicted, null);
    for (const partial of [...this.openPartials]) this.intake.drop(partial);
  }

  #makePicker(): void {
    const have = this.have!;
    const { priorities } = this.goal;
    this.picker = new Picker(have.length, this.rng);
    for (let p = 0; p < have.length; p++) {
      if (have.get(p)) this.picker.have(p);
      else if (priorities !== null) this.picker.setPriority(p, priorities[p]!);
    }
    for (const partial of this.partials.list) this.picker.open(partial.piece);
    for (const peer of this.peers) if (peer.has !== null) this.picker.peerJoined(peer.has);
  }

  /** Blocks that lie in pad files are zeros, and nobody is asked for them (BEP 47). */
  #fillPads(partial: Partial): void {
    const layout = this.layout!;
    const { files } = this.meta!;
    for (let b = 0; b < partial.blockCount; b++) {
      const spans = layout.spans(partial.piece, b * BLOCK_BYTES, layout.blockSize(partial.piece, b));
      if (!spans.every((span) => files[span.file]!.pad)) continue;
      const slot = this.slots.take();
      assert(slot >= 0, 'a partial was opened without room');
      this.slots.zero(slot, 0, BLOCK_BYTES);
      this.partials.padded(partial, b, slot);
    }
  }

  #rechoke(now: number): void {
    if (this.layout === null) return;
    const seeding = this.picker === null;
    const { pieceLength } = this.layout;
    const due = now >= this.choker.nextAt();
    const changes = due
      ? this.choker.decide(now, this.peers, seeding, pieceLength)
      : this.choker.fill(this.peers, seeding);
    for (const peer of changes) {
      if (peer.choked) this.uploads.unchoke(peer, now);
      else this.uploads.choke(peer);
    }
  }

  /** What is free for downloads, by the number of peers; at least a short pipeline for each. */
  #shareMemory(): void {
    const room = this.slots.count - this.slotReserve;
    this.windowLimit = Math.max(16, Math.floor(room / 2 / Math.max(1, this.peers.length)));
  }

  #checkDone(): void {
    if (this.have !== null && this.goal.takeReached()) this.#sink.onDone();
  }
}

const NONE_OPEN: readonly Partial[] = [];
