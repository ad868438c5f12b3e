/**
 * A simulated HTTP tracker (BEP 3, 23, 48): a swarm table by info-hash and address, compact answers, and the ways a
 * tracker fails.
 */

import { utf8Encode, writeU16 } from '../src/base/bytes.ts';
import { parseIp } from '../src/base/ip.ts';
import type { Rng } from '../src/base/random.ts';
import { bencode, type Plain } from './bencode.ts';
import type { WebReply, WebRequest, WebServer } from './web.ts';
import type { World } from './world.ts';

interface Member {
  readonly ip: string;
  readonly port: number;
  readonly left: number;
}

export interface Announce {
  readonly atMs: number;
  readonly ip: string;
  readonly port: number;
  readonly infoHash: string;
  readonly event: string;
  readonly left: number;
  readonly uploaded: number;
  readonly downloaded: number;
}

export class SimTracker implements WebServer {
  readonly url: string;
  intervalS = 120;
  minIntervalS = 30;
  maxPeers = 50;
  /** 'up'; refuses; never answers; answers rubbish; answers with a failure reason. */
  mode: 'up' | 'refused' | 'silent' | 'garbage' | 'failure' = 'up';
  announceCount = 0;
  /** Told of each announce; for the checkers. */
  onAnnounce: ((announce: Announce) => void) | null = null;
  readonly #world: World;
  readonly #rng: Rng;
  readonly #swarms: Map<string, Map<string, Member>> = new Map();

  constructor(world: World, host = 'tracker.example') {
    this.#world = world;
    this.#rng = world.fork(`tracker ${host}`);
    this.url = `http://${host}/announce`;
    world.web.servers.set(host, this);
  }

  /** Who is in a swarm, by info-hash in hex. */
  members(infoHash: string): readonly Member[] {
    return [...(this.#swarms.get(infoHash)?.values() ?? [])];
  }

  /** Puts an address there that never announced. */
  plant(infoHash: string, ip: string, port: number): void {
    this.#swarm(infoHash).set(`${ip}:${port}`, { ip, port, left: 0 });
  }

  answer(request: WebRequest): WebReply | string | null {
    if (this.mode === 'refused') return 'ECONNREFUSED';
    if (this.mode === 'silent') return null;
    if (this.mode === 'garbage') return { status: 200, body: utf8Encode('<html>d8:intervali1e') };
    if (this.mode === 'failure') return { status: 200, body: bencode({ 'failure reason': 'not today' }) };
    const query = parseQuery(request.url);
    if (request.url.includes('/scrape')) return { status: 200, body: this.#scrape(query) };
    const infoHash = query.get('info_hash') ?? '';
    const port = Number(query.get('port'));
    if (infoHash.length !== 40 || !(port > 0 && port < 65536)) {
      return { status: 200, body: bencode({ 'failure reason': 'bad announce' }) };
    }
    const announce: Announce = {
      atMs: this.#world.now,
      ip: request.ip,
      port,
      infoHash,
      event: query.get('event') ?? '',
      left: Number(query.get('left') ?? 0),
      uploaded: Number(query.get('uploaded') ?? 0),
      downloaded: Number(query.get('downloaded') ?? 0),
    };
    this.announceCount++;
    if (this.onAnnounce !== null) this.onAnnounce(announce);
    return { status: 200, body: this.#announce(announce, Number(query.get('numwant') ?? 50)) };
  }

  #announce(announce: Announce, wanted: number): Uint8Array {
    const swarm = this.#swarm(announce.infoHash);
    const key = `${announce.ip}:${announce.port}`;
    if (announce.event === 'stopped') swarm.delete(key);
    else swarm.set(key, { ip: announce.ip, port: announce.port, left: announce.left });
    let seeds = 0;
    const others: Member[] = [];
    for (const [k, member] of swarm) {
      if (member.left === 0) seeds++;
      // who has everything has no use for seeds
      if (k !== key && !(announce.left === 0 && member.left === 0)) others.push(member);
    }
    const count = announce.event === 'stopped' ? 0 : Math.min(wanted, this.maxPeers, others.length);
    const peers = new Uint8Array(count * 6);
    for (let i = 0; i < count; i++) {
      const pick = i + this.#rng.below(others.length - i);
      const member = others[pick]!;
      others[pick] = others[i]!;
      peers.set(parseIp(member.ip)!, i * 6);
      writeU16(peers, i * 6 + 4, member.port);
    }
    return bencode({
      interval: this.intervalS,
      'min interval': this.minIntervalS,
      complete: seeds,
      incomplete: swarm.size - seeds,
      peers,
    });
  }

  #scrape(query: ReadonlyMap<string, string>): Uint8Array {
    const infoHash = query.get('info_hash') ?? '';
    const swarm = this.#swarms.get(infoHash);
    let seeds = 0;
    for (const member of swarm?.values() ?? []) if (member.left === 0) seeds++;
    const counts: Plain = { complete: seeds, downloaded: 0, incomplete: (swarm?.size ?? 0) - seeds };
    // the key is 20 raw bytes, which the writer's text keys cannot hold
    const raw = Uint8Array.from({ length: 20 }, (_, i) => Number.parseInt(infoHash.slice(2 * i, 2 * i + 2), 16));
    return joined([utf8Encode('d5:filesd20:'), raw, bencode(counts), utf8Encode('ee')]);
  }

  #swarm(infoHash: string): Map<string, Member> {
    let swarm = this.#swarms.get(infoHash);
    if (swarm === undefined) {
      swarm = new Map();
      this.#swarms.set(infoHash, swarm);
    }
    return swarm;
  }
}

/** Values as text, but `info_hash` as hex of its bytes. */
export function parseQuery(url: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const at = url.indexOf('?');
  if (at < 0) return found;
  for (const pair of url.slice(at + 1).split('&')) {
    const equals = pair.indexOf('=');
    const key = pair.slice(0, equals);
    const value = pair.slice(equals + 1);
    found.set(key, key === 'info_hash' || key === 'peer_id' ? hexOfEscaped(value) : decodeURIComponent(value));
  }
  return found;
}

function hexOfEscaped(text: string): string {
  let hex = '';
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '%') {
      hex += text.slice(i + 1, i + 3).toLowerCase();
      i += 2;
    } else {
      hex += text.charCodeAt(i).toString(16).padStart(2, '0');
    }
  }
  return hex;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const made = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}
