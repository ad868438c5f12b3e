/**
 * One connection from its first byte: joins a conn (bytes), a cipher where one was agreed, a conversation (messages) and,
 * after the handshake, a peer.
 *
 *     dialing/accepted -> obfuscating (MSE, if at all) -> greeting (handshakes cross)
 *                      -> attached (the swarm's peer is the conversation's sink) -> closed
 *
 * Invariant: at most one batch is out on the conn. Plain, it is the conversation's own, and its slots return when the conn
 * says so; with a cipher it is a copy, and they return at once.
 * Limits: 10 s from connected to the end of the handshake (libtorrent; DEMANDS W3), looked at once a second.
 */

import { concat, equal } from '../base/bytes.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import { isLocal, parseIp } from '../base/ip.ts';
import type { Conn, ConnSink, Endpoint } from '../base/ports.ts';
import type { Peer, PeerLink } from '../swarm/peer.ts';
import { Conversation } from '../wire/conversation.ts';
import { type Encryption, MseHandshake, type MseSink } from '../wire/mse.ts';
import type { OutBatch } from '../wire/out-buffer.ts';
import type { Rc4 } from '../wire/rc4.ts';
import { SilentSink } from '../wire/silent-sink.ts';
import type { SessionCore } from './core.ts';
import type { Entry } from './entry.ts';
import type { Race } from './race.ts';

export const HANDSHAKE_MS = 8500;
/** Who can be reached answers within it, even one that is far away and a first packet lost. */
const ANSWER_MS = 1500;
/** A peer that takes nothing for so long is closed (DEMANDS W6). */
const STALLED_MS = 120_000;
/** The same while less than SHORT_SHARE of the slots are free. */
const STALLED_SHORT_MS = 20_000;
const SHORT_SHARE = 1 / 4;
/** Bytes of one gathered write: what a socket's buffers take at once on a fast link. */
const BATCH_BYTES = 1 << 19;
/** Bytes on the wire for each byte of a stream: 40 of headers in a packet of 1,460. */
const WITH_HEADERS = 1.027;
const NOWHERE: Uint8Array = new Uint8Array(4);
/** Longest time that nothing is read because too much came at once. */
const MOST_HELD_MS = 1000;
/** Why nothing is read. */
const BY_PEER = 1;
const BY_LIMIT = 2;
/** The same of a stream that is enciphered, which is copied. */
const CIPHER_BATCH_BYTES = 1 << 17;
/** A batch goes beyond its limit by less than a block when that stands first. */
export const CIPHER_ARENA_BYTES: number = CIPHER_BATCH_BYTES + (1 << 15);

export class Link extends SilentSink implements ConnSink, PeerLink, MseSink {
  readonly conversation: Conversation;
  readonly remote: Endpoint;
  readonly incoming: boolean;
  /** The torrent: known from the start when we dial, after its handshake when it does. */
  entry: Entry | null;
  /** Where the peer book has its address; -1 for one that came by itself, until it says where it listens. */
  candidate: number;
  utp = false;
  /** Dialed because a third peer said so (BEP 55). */
  punched = false;
  /** Others were asked to bring us together. */
  sought = false;
  encryption: Encryption = 'none';
  /** Something came from the other side. */
  heard = false;
  /** Outgoing: begins with MSE. */
  readonly hidden: boolean;
  /** The second try at a candidate, the other way round. */
  readonly again: boolean;
  /** Rate limits do not concern it: it is in the local network. */
  readonly unlimited: boolean;
  /** All bytes so far, and payload among them at the last count. */
  #bytesIn = 0;
  #bytesOut = 0;
  #countedIn = 0;
  #countedOut = 0;
  peer: Peer | null = null;
  openedAtMs: number;
  connected: boolean;
  closed = false;
  /** In the list of links to flush. */
  touched = false;
  readonly #core: SessionCore;
  #conn: Conn | null = null;
  #race: Race | null = null;
  #sending = false;
  #sendingSinceMs = 0;
  #mse: MseHandshake | null = null;
  /** What MSE has to send. */
  #mseOut: Uint8Array[] = [];
  #cipherIn: Rc4 | null = null;
  #cipherOut: Rc4 | null = null;
  /** Holds the batch that is out, enciphered. */
  #arena: Uint8Array | null = null;
  /** BY_ flags; 0: it is read. */
  #held = 0;
  /** What is out is the conversation's. */
  #batchOut = false;

  constructor(
    core: SessionCore,
    remote: Endpoint,
    incoming: boolean,
    entry: Entry | null,
    candidate: number,
    hidden = false,
    again = false,
  ) {
    super();
    this.hidden = hidden;
    this.again = again;
    this.unlimited = !core.options.limitLan && isLocal(parseIp(remote.ip) ?? NOWHERE);
    this.#core = core;
    this.remote = remote;
    this.incoming = incoming;
    this.entry = entry;
    this.candidate = candidate;
    this.connected = incoming;
    this.openedAtMs = core.turn.now;
    this.conversation = new Conversation(core.ports.slots, !incoming, this);
  }

  /** The transport, right after it was made. */
  carry(conn: Conn, utp: boolean): void {
    this.#conn = conn;
    this.#race = null;
    this.utp = utp;
  }

  /** Or two of them, of which one will be. */
  carryEither(race: Race): void {
    this.#race = race;
  }

  /** While it is dialed: the other side does so too (BEP 55). What went out by uTP before has opened our NAT already. */
  hasten(): void {
    this.punched = true;
    this.#race?.hasten();
  }

  // ------------------------------------------------------------------------------------------------------- conn sink

  onConnected(): void {
    this.#core.begin();
    this.connected = true;
    this.openedAtMs = this.#core.turn.now;
    this.#core.dialer.settled(this);
    const entry = this.entry;
    if (entry === null || this.closed) return;
    entry.connections.greet(this, entry.swarmHash);
    if (this.hidden) this.#hide(entry);
  }

  onData(bytes: Uint8Array): void {
    this.#core.begin();
    if (this.closed) return;
    this.heard = true;
    this.#bytesIn += bytes.length;
    if (this.peer !== null && !this.unlimited) this.#pace(bytes.length);
    if (this.#mse !== null) return this.#mse.receive(bytes);
    this.#cipherIn?.crypt(bytes, 0, bytes, 0, bytes.length);
    this.conversation.receive(this.#core.turn.now, bytes);
  }

  onSent(): void {
    this.#core.begin();
    this.#sending = false;
    if (this.closed) return;
    if (this.#arena !== null) {
      this.#core.arenas.give(this.#arena);
      this.#arena = null;
    }
    if (this.#batchOut) {
      this.#batchOut = false;
      this.conversation.sentOut();
    }
    if (this.#mseOut.length > 0) this.touch();
    if (this.conversation.queuedBytes > 0) this.touch();
    if (this.peer !== null && this.peer.uploads.count > 0) this.peer.swarm.wake(this.peer);
  }

  onClosed(fault: IoFault | null): void {
    this.#core.begin();
    this.#conn = null;
    this.#race = null;
    this.close(PeerFault.Closed, fault);
  }

  // --------------------------------------------------------------------------------------------------- obfuscating

  /** Of an accepted connection: whether it begins in the plain is seen by its first bytes. */
  listenFor(methods: number, takesPlain: boolean): void {
    this.#mse = this.#negotiation(methods, takesPlain, null, null);
  }

  onMseSend(bytes: Uint8Array): void {
    this.#mseOut.push(bytes);
    this.touch();
  }

  mayExchangeKeys(): boolean {
    return this.#core.keyExchanges.admit(this, this.#core.turn.now);
  }

  /** Its turn has come, after it had to wait. */
  exchangeKeys(): void {
    this.#mse?.exchangeKeys();
  }

  findSecret(hash: Uint8Array): Uint8Array | null {
    return this.#core.findSecret(hash);
  }

  onMseDone(incoming: Rc4 | null, outgoing: Rc4 | null, rest: Uint8Array): void {
    this.#mse = null;
    this.#cipherIn = incoming;
    this.#cipherOut = outgoing;
    this.encryption = incoming === null ? 'handshake' : 'rc4';
    if (this.closed) return;
    if (rest.length > 0) this.conversation.receive(this.#core.turn.now, rest);
    if (this.conversation.queuedBytes > 0) this.touch();
  }

  onMsePlain(first: Uint8Array): void {
    this.#mse = null;
    this.conversation.receive(this.#core.turn.now, first);
  }

  onMseFault(): void {
    this.close(PeerFault.BadHandshake, null);
  }

  /** Our handshake goes along, enciphered. */
  #hide(entry: Entry): void {
    const batch = this.conversation.takeOut(BATCH_BYTES, this.#core.turn.now)!;
    const first = concat(batch.views.slice(0, batch.count));
    this.conversation.sentOut();
    this.#mse = this.#negotiation(this.#core.cryptoMethods, false, entry.swarmHash, first);
    this.#mse.start();
  }

  #negotiation(
    methods: number,
    takesPlain: boolean,
    secret: Uint8Array | null,
    first: Uint8Array | null,
  ): MseHandshake {
    const { rng, ports } = this.#core;
    const outgoing = !this.incoming;
    const { crypto, slots } = ports;
    return new MseHandshake({ outgoing, methods, takesPlain, secret, first, rng, crypto, slots, sink: this });
  }

  // ---------------------------------------------------------------------------------- greeting (sink until attached)

  override onHandshake(infoHash: Uint8Array): void {
    if (!this.incoming) {
      if (!equal(infoHash, this.entry!.swarmHash)) this.close(PeerFault.BadHandshake, null);
      return;
    }
    const entry = this.#core.find(infoHash);
    if (entry === null || !entry.connections.admits) return this.close(PeerFault.BadHandshake, null);
    this.entry = entry;
    entry.connections.greet(this, infoHash);
  }

  override onPeerId(peerId: Uint8Array): void {
    const entry = this.entry!;
    if (equal(peerId, entry.peerId)) return this.close(PeerFault.SelfConnection, null);
    if (!entry.connections.accepts(this, peerId)) return this.close(PeerFault.Duplicate, null);
    entry.connections.attach(this, peerId);
  }

  override onFault(fault: PeerFault): void {
    this.close(fault, null);
  }

  // ------------------------------------------------------------------------------------------------------- peer link

  touch(): void {
    if (this.touched || this.closed) return;
    this.touched = true;
    this.#core.touchedLinks.push(this);
    this.#core.begin();
  }

  pause(): void {
    this.#hold(BY_PEER);
  }

  resume(): void {
    this.#letGo(BY_PEER);
  }

  #hold(why: number): void {
    if (this.#held === 0) this.#conn?.pause();
    this.#held |= why;
  }

  #letGo(why: number): void {
    if (this.#held === 0) return;
    this.#held &= ~why;
    if (this.#held === 0) this.#conn?.resume();
  }

  /** Holds back a rush beyond the download limit. */
  #pace(bytes: number): void {
    const waitMs = this.entry!.downLimit.arrived(this.#core.turn.now, bytes);
    if (waitMs < 1 || (this.#held & BY_LIMIT) !== 0) return;
    this.#hold(BY_LIMIT);
    this.#core.alarm(Math.min(waitMs, MOST_HELD_MS), () => this.#letGo(BY_LIMIT));
  }

  close(fault: PeerFault, why: IoFault | null): void {
    if (this.closed) return;
    this.closed = true;
    const conn = this.#conn;
    this.#conn = null;
    conn?.close();
    this.#race?.cancel();
    this.#race = null;
    this.conversation.close();
    if (this.peer !== null) this.peer.swarm.detach(this.peer);
    this.#core.linkClosed(this, fault, why);
  }

  /** Sends what the conversation has, if nothing is under way. */
  flush(): void {
    this.touched = false;
    if (this.closed || this.#sending || this.#conn === null || !this.connected) return;
    if (this.#mseOut.length > 0) {
      const views = this.#mseOut;
      this.#mseOut = [];
      return this.#send(views, views.length);
    }
    if (this.#mse !== null) return;
    const cipher = this.#cipherOut;
    const batch = this.conversation.takeOut(cipher === null ? BATCH_BYTES : CIPHER_BATCH_BYTES, this.#core.turn.now);
    if (batch === null) return;
    if (cipher !== null) return this.#sendEnciphered(cipher, batch);
    this.#batchOut = true;
    this.#bytesOut += batch.bytes;
    this.#send(batch.views, batch.count);
  }

  #send(views: readonly Uint8Array[], count: number): void {
    this.#sending = true;
    this.#sendingSinceMs = this.#core.turn.now;
    this.#conn!.send(views, count);
  }

  #sendEnciphered(cipher: Rc4, batch: OutBatch): void {
    const arena = this.#core.arenas.take();
    const { views, count } = batch;
    let at = 0;
    for (let i = 0; i < count; i++) {
      const view = views[i]!;
      cipher.crypt(arena, at, view, 0, view.length);
      at += view.length;
    }
    this.#bytesOut += batch.bytes;
    this.conversation.sentOut();
    this.#arena = arena;
    this.#send([arena.subarray(0, at)], 1);
  }

  /** Every second: closes what is over its time. */
  sweep(now: number): void {
    if (this.#core.options.limitOverhead && !this.unlimited) this.#countOverhead(now);
    if (!this.connected) {
      if (now - this.openedAtMs >= ANSWER_MS) this.entry?.connections.unanswered(this);
    } else if (this.peer === null && now - this.openedAtMs >= HANDSHAKE_MS) this.close(PeerFault.Timeout, null);
    else if (this.#sending && now - this.#sendingSinceMs >= this.#patienceMs()) {
      this.close(PeerFault.StalledReader, null);
    }
  }

  /** Charges what went beside payload since the last time. */
  #countOverhead(now: number): void {
    if (this.peer === null || this.entry === null) return;
    const besideIn = this.#bytesIn * WITH_HEADERS - this.peer.down.total;
    const besideOut = this.#bytesOut * WITH_HEADERS - this.peer.up.total;
    this.entry.downLimit.spend(now, Math.max(0, besideIn - this.#countedIn));
    this.entry.upLimit.spend(now, Math.max(0, besideOut - this.#countedOut));
    this.#countedIn = besideIn;
    this.#countedOut = besideOut;
  }

  /** Who stands still holds memory; when that is short he makes way for those who take what they ask for. */
  #patienceMs(): number {
    const { slots } = this.#core.ports;
    return slots.freeCount < slots.count * SHORT_SHARE ? STALLED_SHORT_MS : STALLED_MS;
  }
}
