/** One torrent's announcer and the network it announces to, on a clock that the test moves. */

import { expect } from 'vitest';
import { Rng } from '../src/base/random.ts';
import { type BInput, encode } from '../src/codec/bencode.ts';
import { type AnnounceFigures, type AnnounceMode, Announcer, type AnnounceSink } from '../src/discovery/announce.ts';
import type { Family, NamedPeer, TrackerRequest } from '../src/discovery/tracker.ts';
import { announceUrl, parseAnnounce, scrapeUrl } from '../src/discovery/tracker-http.ts';

export const MINUTE: number = 60_000;

export const HASH: Uint8Array = new Uint8Array(20).fill(1);

export interface Asked {
  readonly id: number;
  readonly family: Family;
  readonly protocol: string;
  /** As HTTP would carry it. */
  readonly url: URL;
  readonly timeoutMs: number;
}

export interface BenchOptions {
  readonly seed?: number;
  readonly families?: readonly Family[];
  readonly mode?: AnnounceMode;
  readonly exclusive?: boolean;
}

/** One torrent and the network it announces to, on a clock that the test moves. */
export class Bench implements AnnounceSink {
  now = 0;
  readonly asked: Asked[] = [];
  readonly abandoned: number[] = [];
  readonly peers: number[][] = [];
  readonly warnings: string[] = [];
  readonly external: string[] = [];
  switches = 0;
  /** Whether what is given up may have reached the tracker. */
  heard = false;
  figures: AnnounceFigures = { uploaded: 0, downloaded: 0, left: 100, partialSeed: false };
  readonly announcer: Announcer;

  constructor(tiers: string[][], options: BenchOptions = {}) {
    const { seed = 1, families = [4], mode = 'tier', exclusive = false } = options;
    this.announcer = new Announcer({
      infoHash: HASH,
      peerId: new Uint8Array(20).fill(65),
      key: 77,
      tiers,
      families,
      mode,
      exclusive,
      rng: new Rng(Uint32Array.of(seed * 0x9e3779b1, seed * 0x85ebca6b, seed * 0xc2b2ae35, seed)),
      sink: this,
    });
    this.announcer.port = 6881;
  }

  onAsk({ id, family, protocol, url, timeoutMs, announce, infoHash }: TrackerRequest): void {
    const text = announce === null ? (scrapeUrl(url, [infoHash]) ?? url) : announceUrl(url, announce);
    this.asked.push({ id, family, protocol, url: new URL(text), timeoutMs });
  }
  onAbandon(id: number): boolean {
    this.abandoned.push(id);
    return this.heard;
  }
  onPeers(peers4: Uint8Array, peers6: Uint8Array, named: readonly NamedPeer[]): void {
    this.peers.push([peers4.length / 6, peers6.length / 18, named.length]);
  }
  onExternalIp(ip: Uint8Array, trackerIp: string): void {
    this.external.push(`${ip.join('.')} from ${trackerIp}`);
  }
  onTrackerSwitched(): void {
    this.switches++;
  }
  onTrackerWarning(url: string, message: string): void {
    this.warnings.push(`${url} ${message}`);
  }
  fillFigures(into: AnnounceFigures): void {
    Object.assign(into, this.figures);
  }

  /** The oldest request not looked at yet, which must exist. */
  next(): Asked {
    const first = this.asked.shift();
    if (first === undefined) throw new Error('nothing was asked');
    return first;
  }
  tick(): Asked {
    this.announcer.tick(this.now);
    return this.next();
  }
  /** Moves the clock to the next deadline and ticks. */
  later(): Asked {
    for (let turn = 0; turn < 3 && this.asked.length === 0; turn++) {
      expect(this.announcer.nextAt()).toBeLessThan(Number.POSITIVE_INFINITY);
      this.now = Math.max(this.now, this.announcer.nextAt());
      this.announcer.tick(this.now);
    }
    return this.next();
  }
  ok(asked: Asked, fields: Record<string, BInput> = {}): void {
    const reply = parseAnnounce(200, encode({ interval: 1800, peers: '', ...fields }), '127.0.0.1');
    this.announcer.answered(asked.id, this.now, reply, '127.0.0.1');
  }
  fail(asked: Asked, code = 'ECONNREFUSED'): void {
    this.announcer.failed(asked.id, this.now, { code, message: 'refused' });
  }
  quiet(): void {
    this.announcer.tick(this.now);
    expect(this.asked).toEqual([]);
  }
}

export const event = (asked: Asked): string | null => asked.url.searchParams.get('event');
export const host = (asked: Asked): string => asked.url.hostname;
