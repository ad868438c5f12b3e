/** The pace of asking, against peers that behave as real clients were seen to; who is asked for what, and who is blamed. */

import { describe, expect, test } from 'vitest';
import { equal, utf8Encode } from '../base/bytes.ts';
import { PeerFault } from '../base/errors.ts';
import { sha1, sha256 } from '../base/hash.ts';
import { METADATA_PIECE_BYTES, MetadataFetch } from './metadata-fetch.ts';
import type { Peer } from './peer.ts';

const SIZE = 81 * METADATA_PIECE_BYTES - 1000;
const INFO: Uint8Array = Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 9)) & 255);

interface Answer {
  readonly piece: number;
  readonly atMs: number;
}

const RTORRENT = '-lt0D80-';

/** Fetches from one peer; `respond` turns a request at a time into an answer, or null: it is forgotten. */
function fetchFrom(
  respond: (piece: number, now: number) => Answer | null,
  client = '-XX0000-',
): { seconds: number; mostAsked: number } {
  const answers: Answer[] = [];
  let now = 0;
  let done = false;
  let mostAsked = 0;
  const peer = {
    number: 3,
    peerId: utf8Encode(client.padEnd(20)),
    closed: false,
    metadataAsked: 0,
    metadataRestUntilMs: 0,
    link: { touch() {} },
    conversation: {
      remote: { metadataSize: SIZE },
      supports: { metadata: true },
      metadataRequest(piece: number) {
        const answer = respond(piece, now);
        if (answer !== null) answers.push(answer);
      },
    },
    fault() {
      throw new Error('closed');
    },
  } as unknown as Peer;
  const fetch = new MetadataFetch(sha1(INFO), null, {
    onHashesDisagree() {},
    onMetadata(bytes) {
      expect(equal(bytes, INFO)).toBe(true);
      done = true;
    },
  });
  fetch.ask(peer, now);
  for (; !done && now < 600_000; now += 50) {
    for (const answer of answers.filter(({ atMs }) => atMs <= now)) {
      answers.splice(answers.indexOf(answer), 1);
      const from = answer.piece * METADATA_PIECE_BYTES;
      fetch.received(peer, answer.piece, SIZE, INFO.subarray(from, from + METADATA_PIECE_BYTES), [peer], now);
      mostAsked = Math.max(mostAsked, peer.metadataAsked);
    }
    if (now % 1000 === 0) {
      fetch.sweep([peer], now);
      fetch.ask(peer, now);
    }
  }
  expect(done).toBe(true);
  expect(peer.metadataAsked).toBe(0);
  return { seconds: now / 1000, mostAsked };
}

test('of a peer that answers everything each 3 s (Transmission) more and more is asked', () => {
  const { seconds, mostAsked } = fetchFrom((piece, now) => ({ piece, atMs: Math.floor(now / 3000 + 1) * 3000 }));
  expect(mostAsked).toBeGreaterThan(16);
  expect(seconds).toBeLessThan(30);
});

test('metadata of a few pieces is asked for at once', () => {
  const askedAtMs: number[] = [];
  fetchFrom((piece, now) => {
    askedAtMs[piece] = now;
    return { piece, atMs: Math.floor(now / 3000 + 1) * 3000 };
  });
  expect(askedAtMs.slice(0, 4)).toEqual([0, 0, 0, 0]);
});

test('a peer that answers little at a time (Transmission under load) is not taken for a forgetful one', () => {
  let freeAtMs = 0;
  const { seconds, mostAsked } = fetchFrom((piece, now) => {
    freeAtMs = Math.max(freeAtMs, now) + 500;
    return { piece, atMs: Math.floor(freeAtMs / 2000 + 1) * 2000 };
  });
  expect(mostAsked).toBeGreaterThan(4);
  expect(seconds).toBeLessThan(60);
});

/** Forgets what comes while it answers another (rtorrent). */
function forgetful(answerMs: number): (piece: number, now: number) => Answer | null {
  let busyUntilMs = -1;
  return (piece, now) => {
    if (now < busyUntilMs) return null;
    busyUntilMs = now + answerMs;
    return { piece, atMs: busyUntilMs };
  };
}

test('a near peer that takes one request at a time (rtorrent) is never asked for two', () => {
  const { seconds, mostAsked } = fetchFrom(forgetful(50), RTORRENT);
  expect(mostAsked).toBe(1);
  expect(seconds).toBeLessThan(10);
});

test('so is a far one; another client like it is found out', () => {
  expect(fetchFrom(forgetful(400), RTORRENT).mostAsked).toBe(1);
  expect(fetchFrom(forgetful(400)).seconds).toBeLessThan(60);
});

describe('several peers', () => {
  interface Teller {
    readonly peer: Peer;
    readonly asked: number[];
    fault: number;
  }

  class Scene {
    readonly tellers: Teller[] = [];
    readonly got: Uint8Array[] = [];
    disagreed = 0;
    readonly fetch: MetadataFetch;

    constructor(infoHash: Uint8Array | null = sha1(INFO), infoHashV2: Uint8Array | null = null) {
      this.fetch = new MetadataFetch(infoHash, infoHashV2, {
        onMetadata: (bytes) => this.got.push(bytes),
        onHashesDisagree: () => this.disagreed++,
      });
    }

    /** One that speaks of metadata of this size. */
    join(metadataSize: number, takes = true): Teller {
      const asked: number[] = [];
      const teller: Teller = { asked, fault: -1, peer: null as unknown as Peer };
      const peer = {
        number: this.tellers.length,
        peerId: new Uint8Array(20),
        closed: false,
        metadataAsked: 0,
        metadataRestUntilMs: 0,
        link: { touch() {} },
        conversation: {
          remote: { metadataSize },
          supports: { metadata: takes },
          metadataRequest: (piece: number) => asked.push(piece),
        },
        fault: (fault: number) => {
          teller.fault = fault;
          (peer as { closed: boolean }).closed = true;
        },
      };
      Object.assign(teller, { peer });
      this.tellers.push(teller);
      return teller;
    }

    /** Everybody answers what it was asked, until nobody is asked any more. `wrong`: who lies. */
    run(wrong: readonly Teller[] = []): void {
      const peers = (): Peer[] => this.tellers.filter(({ peer }) => !peer.closed).map(({ peer }) => peer);
      for (let now = 0, quiet = false; !quiet; now += 300) {
        quiet = true;
        for (const peer of peers()) this.fetch.ask(peer, now);
        for (const teller of this.tellers) {
          for (const piece of teller.asked.splice(0)) {
            if (teller.peer.closed) break;
            quiet = false;
            const from = piece * METADATA_PIECE_BYTES;
            const data = INFO.slice(from, from + METADATA_PIECE_BYTES);
            if (wrong.includes(teller)) data[0]! ^= 1;
            this.count(teller);
            this.fetch.received(teller.peer, piece, SIZE, data, peers(), now);
          }
        }
      }
    }

    readonly counts = new Map<Teller, number>();

    count(teller: Teller): void {
      this.counts.set(teller, (this.counts.get(teller) ?? 0) + 1);
    }
  }

  test('share the work, and each piece is asked of one', () => {
    const scene = new Scene();
    const tellers = [scene.join(SIZE), scene.join(SIZE), scene.join(SIZE)];
    scene.run();
    expect(scene.got.length).toBe(1);
    const counts = tellers.map((teller) => scene.counts.get(teller)!);
    expect(counts.reduce((sum, n) => sum + n)).toBe(81);
    expect(Math.min(...counts)).toBeGreaterThan(15);
  });

  test('of whom one lies: it is found, and closed once it is alone to blame', () => {
    const scene = new Scene();
    const [good, bad] = [scene.join(SIZE), scene.join(SIZE)];
    scene.run([bad]);
    expect(scene.got.map((bytes) => equal(bytes, INFO))).toEqual([true]);
    expect(good.fault).toBe(-1);
    const alone = new Scene();
    const liar = alone.join(SIZE);
    alone.run([liar]);
    expect([alone.got.length, liar.fault]).toEqual([0, PeerFault.Corrupt]);
  });

  test('give metadata to one of two hashes of different torrents: nobody is blamed, nothing more is asked', () => {
    const other = new Uint8Array(32).fill(7);
    for (const scene of [new Scene(sha1(INFO), other), new Scene(other.subarray(0, 20), sha256(INFO))]) {
      const tellers = [scene.join(SIZE), scene.join(SIZE)];
      scene.run();
      expect([scene.got.length, scene.disagreed]).toEqual([0, 1]);
      expect(tellers.map(({ fault }) => fault)).toEqual([-1, -1]);
      expect([...scene.counts.values()].reduce((sum, n) => sum + n)).toBe(81);
    }
    const both = new Scene(sha1(INFO), sha256(INFO));
    both.join(SIZE);
    both.run();
    expect([both.got.length, both.disagreed]).toEqual([1, 0]);
  });

  test('that name no size, one that cannot be, or take no requests are not asked', () => {
    const scene = new Scene();
    for (const size of [-1, 0, (16 << 20) + 1, 2 ** 31]) scene.join(size);
    scene.join(SIZE, false);
    for (const { peer } of scene.tellers) scene.fetch.ask(peer, 0);
    expect(scene.tellers.flatMap(({ asked }) => asked)).toEqual([]);
    const large = scene.join(16 << 20);
    scene.fetch.ask(large.peer, 0);
    expect(large.asked).toEqual([0, 1, 2, 3]);
  });
});
