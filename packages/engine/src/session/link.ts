/**
 * One connection from its first byte: joins a conn (bytes), a conversation (messages) and, after the handshake, a peer.
 *
 *     dialing/accepted -> greeting (handshakes cross) -> attached (the swarm's peer is the conversation's sink) -> closed
 *
 * Invariant: at most one batch of the conversation is out on the conn; its slots return when the conn says so.
 * Limits: 10 s from connected to the end of the handshake (libtorrent; DEMANDS W3), looked at once a second.
 */

import { equal } from '../base/bytes.ts';
import { type IoFault, PeerFault } from '../base/errors.ts';
import type { Conn, ConnSink, Endpoint } from '../base/ports.ts';
import type { Peer, PeerLink } from '../swarm/peer.ts';
import { Conversation } from '../wire/conversation.ts';
import { SilentSink } from '../wire/silent-sink.ts';
import type { SessionCore } from './core.ts';
import type { Entry } from './entry.ts';

export const HANDSHAKE_MS = 8500;
/** A peer that takes nothing for so long is closed (DEMANDS W6). */
const STALLED_MS = 120_000;
/** The same while less than SHORT_SHARE of the slots are free. */
const STALLED_SHORT_MS = 20_000;
const SHORT_SHARE = 1 / 4;
/** Bytes of one gathered write: what a socket's buffers take at once on a fast link. */
const BATCH_BYTES = 1 << 19;

export class Link extends SilentSink implements ConnSink, PeerLink {
  readonly conversation: Conversation;
  readonly remote: Endpoint;
  readonly incoming: boolean;
  /** The torrent: known from the start when we dial, after its handshake when it does. */
  entry: Entry | null;
  /** Where the peer book has its address, -1 for one that came by itself. */
  readonly candidate: number;
  peer: Peer | null = null;
  openedAtMs: number;
  connected: boolean;
  closed = false;
  /** In the list of links to flush. */
  touched = false;
  readonly #core: SessionCore;
  #conn: Conn | null = null;
  #sending = false;
  #sendingSinceMs = 0;

  constructor(core: SessionCore, remote: Endpoint, incoming: boolean, entry: Entry | null, candidate: number) {
    super();
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
  carry(conn: Conn): void {
    this.#conn = conn;
  }

  // ------------------------------------------------------------------------------------------------------- conn sink

  onConnected(): void {
    this.#core.begin();
    this.connected = true;
    this.openedAtMs = this.#core.turn.now;
    this.#core.dialer.settled(this);
    const entry = this.entry;
    if (entry === null || this.closed) return;
    this.conversation.handshake(entry.swarmHash, entry.peerId);
    this.touch();
  }

  onData(bytes: Uint8Array): void {
    this.#core.begin();
    if (!this.closed) this.conversation.receive(this.#core.turn.now, bytes);
  }

  onSent(): void {
    this.#core.begin();
    this.#sending = false;
    if (this.closed) return;
    this.conversation.sentOut();
    if (this.conversation.queuedBytes > 0) this.touch();
    if (this.peer !== null && this.peer.uploads.count > 0) this.peer.swarm.wake(this.peer);
  }

  onClosed(fault: IoFault | null): void {
    this.#core.begin();
    this.#conn = null;
    this.close(PeerFault.Closed, fault);
  }

  // ---------------------------------------------------------------------------------- greeting (sink until attached)

  override onHandshake(infoHash: Uint8Array): void {
    if (!this.incoming) {
      if (!equal(infoHash, this.entry!.swarmHash)) this.close(PeerFault.BadHandshake, null);
      return;
    }
    const entry = this.#core.find(infoHash);
    if (entry === null || !entry.admits(this)) return this.close(PeerFault.BadHandshake, null);
    this.entry = entry;
    this.conversation.handshake(entry.swarmHash, entry.peerId);
    this.touch();
  }

  override onPeerId(peerId: Uint8Array): void {
    const entry = this.entry!;
    if (equal(peerId, entry.peerId)) return this.close(PeerFault.SelfConnection, null);
    if (!entry.acceptsPeer(this, peerId)) return this.close(PeerFault.Duplicate, null);
    entry.attach(this, peerId);
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
    this.#conn?.pause();
  }

  resume(): void {
    this.#conn?.resume();
  }

  close(fault: PeerFault, why: IoFault | null): void {
    if (this.closed) return;
    this.closed = true;
    const conn = this.#conn;
    this.#conn = null;
    conn?.close();
    this.conversation.close();
    if (this.peer !== null) this.peer.swarm.detach(this.peer);
    this.#core.linkClosed(this, fault, why);
  }

  /** Sends what the conversation has, if nothing is under way. */
  flush(): void {
    this.touched = false;
    if (this.closed || this.#sending || this.#conn === null || !this.connected) return;
    const batch = this.conversation.takeOut(BATCH_BYTES, this.#core.turn.now);
    if (batch === null) return;
    this.#sending = true;
    this.#sendingSinceMs = this.#core.turn.now;
    this.#conn.send(batch.views, batch.count);
  }

  /** Every second: closes what is over its time. */
  sweep(now: number): void {
    if (this.peer === null && this.connected && now - this.openedAtMs >= HANDSHAKE_MS)
      this.close(PeerFault.Timeout, null);
    else if (this.#sending && now - this.#sendingSinceMs >= this.#patienceMs()) {
      this.close(PeerFault.StalledReader, null);
    }
  }

  /** Who stands still holds memory; when that is short he makes way for those who take what they ask for. */
  #patienceMs(): number {
    const { slots } = this.#core.ports;
    return slots.freeCount < slots.count * SHORT_SHARE ? STALLED_SHORT_MS : STALLED_MS;
  }
}
