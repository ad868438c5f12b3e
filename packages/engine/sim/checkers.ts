/**
 * What must hold of a real session at any moment between two turns, recounted from nothing. Each returns what is wrong,
 * or null.
 */

import { latin1, toHex } from '../src/base/bytes.ts';
import type { Entry } from '../src/session/entry.ts';
import type { SimSession } from './sim-session.ts';
import { SIM_FOLDER } from './sim-session.ts';
import type { World } from './world.ts';

/** Counts kept by the engine against the same counted anew. */
export function checkSession(session: SimSession): string | null {
  const { core, entry } = session;
  const { slots } = core.ports;
  if (core.links.size > core.options.maxConnections) return `${core.links.size} connections`;
  if (slots.freeCount < 0 || slots.freeCount > slots.count) return 'free slots out of range';
  if (entry === null || entry.swarm.layout === null) return null;
  return checkSwarm(entry) ?? checkClaims(session, entry);
}

/** Availability, interest and wanted counts against the bitfields. */
export function checkSwarm(entry: Entry): string | null {
  const { swarm } = entry;
  const { have, picker } = swarm;
  if (have === null) return null;
  const count = have.length;
  let wantedLeft = 0;
  for (let p = 0; p < count; p++) {
    const wanted = swarm.goal.wants(p);
    if (wanted && !have.get(p)) wantedLeft++;
    if (have.get(p) && swarm.partials.get(p) !== undefined) return `piece ${p} is had and partial`;
    if (picker === null) continue;
    let available = 0;
    for (const peer of swarm.peers) if (peer.has?.get(p)) available++;
    if (picker.availability(p) !== available)
      return `availability of ${p}: ${picker.availability(p)}, counted ${available}`;
    if (picker.has(p) !== have.get(p)) return `picker and have disagree on ${p}`;
    if (!picker.has(p) && picker.isOpen(p) !== (swarm.partials.get(p) !== undefined))
      return `picker and partials disagree on ${p}`;
  }
  if (picker === null ? wantedLeft > 0 : picker.wantedLeft !== wantedLeft) return `wantedLeft, counted ${wantedLeft}`;
  for (const peer of swarm.peers) {
    if (peer.has === null) continue;
    let wanted = 0;
    for (let p = 0; p < count; p++) if (peer.has.get(p) && !have.get(p) && swarm.goal.wants(p)) wanted++;
    if (peer.wantedCount !== wanted) return `wantedCount ${peer.wantedCount}, counted ${wanted}`;
    if (peer.conversation.amInterested !== wanted > 0)
      return `interest ${peer.conversation.amInterested} with ${wanted} wanted`;
  }
  return checkRequests(entry);
}

/** Who is asked for which block, from both ends. */
function checkRequests(entry: Entry): string | null {
  const { swarm } = entry;
  const asked = new Map<string, number>();
  const count = (key: string): void => {
    asked.set(key, (asked.get(key) ?? 0) + 1);
  };
  for (const peer of swarm.peers) {
    for (let i = 0; i < peer.window.count; i++) count(`${peer.window.pieceAt(i)}:${peer.window.blockAt(i)}`);
    // its payload is coming in: out of the window, not yet in the partial
    const coming = peer.inPartial;
    if (coming !== null && swarm.partials.get(coming.piece) === coming) count(`${coming.piece}:${peer.inBlock}`);
  }
  for (const partial of swarm.partials.list) {
    for (let b = 0; b < partial.blockCount; b++) {
      const key = `${partial.piece}:${b}`;
      const counted = asked.get(key) ?? 0;
      if (partial.askers[b] !== counted) return `askers of ${key}: ${partial.askers[b]}, counted ${counted}`;
      asked.delete(key);
    }
  }
  for (const key of asked.keys()) return `${key} is asked for without a partial`;
  return null;
}

/** What is said to be on disk stands there. */
export function checkClaims(session: SimSession, entry: Entry): string | null {
  const { flushed } = entry.swarm;
  const { disk } = session.node;
  if (flushed === null || disk.rotCount > 0) return null;
  const { checkedClaims } = session;
  for (let p = flushed.nextSet(0); p >= 0; p = flushed.nextSet(p + 1)) {
    if (checkedClaims.get(p)) continue;
    if (!disk.isRight(session.torrent, SIM_FOLDER, p)) return `piece ${p} is claimed and not right on disk`;
    checkedClaims.set(p);
  }
  return null;
}

/** After an orderly stop nothing is held. */
export function checkStopped(session: SimSession): string | null {
  const { slots, files, hasher } = session.core.ports as typeof session.core.ports & {
    files: { pendingCount: number };
    hasher: { pendingCount: number };
  };
  if (slots.freeCount !== slots.count) return `${slots.count - slots.freeCount} slots leaked`;
  if (files.pendingCount > 0) return `${files.pendingCount} file operations under way`;
  if (hasher.pendingCount > 0) return `${hasher.pendingCount} hash jobs under way`;
  if (session.core.links.size > 0) return `${session.core.links.size} links left`;
  return null;
}

/** A datagram of an honest machine speaks of no private torrent by DHT or local discovery (BEP 27). */
export function checkDatagram(world: World, bytes: Uint8Array): string | null {
  const kind = speaksOf(world, bytes, true);
  return kind === null ? null : `${kind} of a private torrent`;
}

/** 'DHT' or 'LSD' when it names a torrent of the world by one of them; null: neither. */
export function datagramOf(world: World, bytes: Uint8Array): string | null {
  return speaksOf(world, bytes, false);
}

function speaksOf(world: World, bytes: Uint8Array, privateOnly: boolean): string | null {
  const kind = bytes[0] === 0x64 ? 'DHT' : bytes[0] === 0x42 ? 'LSD' : null;
  if (kind === null) return null;
  const text = latin1(bytes);
  for (const torrent of world.torrents) {
    if (privateOnly && !torrent.private) continue;
    const hex = toHex(torrent.infoHash);
    if (text.includes(latin1(torrent.infoHash)) || text.toLowerCase().includes(hex)) return kind;
  }
  return null;
}
