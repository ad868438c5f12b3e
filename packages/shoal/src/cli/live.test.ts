import type { PeerStats, TorrentStats } from '@shoal/engine';
import { describe, expect, it } from 'vitest';
import { pieceMap, progressBar } from './bars.ts';
import { displayWidth } from './format.ts';
import { frame, type Shown } from './live.ts';
import { themeOf } from './theme.ts';

const plain = themeOf({ isTTY: true }, { NO_COLOR: '1', LANG: 'en_US.UTF-8' });
const colored = themeOf({ isTTY: true }, {});
const ascii = themeOf({ isTTY: false }, { LC_ALL: 'C' });

const STATS: TorrentStats = {
  state: 'downloading',
  bytesDone: 512 * 1024 * 1024,
  bytesTotal: 1024 ** 3,
  downRate: 100 * 1024 * 1024,
  upRate: 0,
  downloaded: 512 * 1024 * 1024,
  uploaded: 0,
  wasted: 0,
  hashFails: 0,
  resumed: 0,
  peers: 3,
  seeds: 2,
  candidates: 1,
  sources: { tracker: 1, dht: 2, pex: 0, lsd: 0, magnet: 0, incoming: 1 },
  piecesDone: 512,
  pieceCount: 1024,
  spilled: 0,
  checking: null,
  eta: 5,
  error: null,
};

const PEER: PeerStats = {
  address: { ip: '127.0.0.1', port: 6881 },
  client: 'Evil\x1b[31m 1.0',
  incoming: false,
  progress: 1,
  downRate: 1e6,
  upRate: 0,
  downloaded: 0,
  uploaded: 0,
  amChoking: true,
  amInterested: true,
  peerChoking: false,
  peerInterested: false,
  requestsOut: 10,
  requestsIn: 0,
};

const SHOWN: Shown = {
  name: '魚の群れ shoal',
  fileCount: 3,
  stats: STATS,
  dhtNodes: 120,
  failed: false,
  pieces: new Uint8Array(1024).fill(3, 0, 512),
  peers: [PEER],
  speeds: [1, 5, 3, 9],
};

describe('the frame', () => {
  it('shows share, speed, time left, peers, map', () => {
    const text = frame([SHOWN], { columns: 80, rows: 24 }, 'hint', plain).join('\n');
    for (const part of [
      '魚の群れ shoal',
      '50.0%',
      '100 MiB/s',
      '5s left',
      '3 peers (2 seeds)',
      '127.0.0.1:6881',
      'Evil 1.0',
      '█',
    ]) {
      expect(text).toContain(part);
    }
    expect(text).not.toContain('\x1b');
  });

  it('fits every size of terminal, with one torrent and with many', () => {
    const long = { ...SHOWN, name: 'x'.repeat(300) };
    for (const theme of [plain, colored, ascii]) {
      for (const columns of [20, 40, 80, 200]) {
        for (const rows of [4, 10, 24, 60]) {
          for (const shown of [[long], [long, SHOWN, { ...SHOWN, stats: null }], Array(50).fill(SHOWN) as Shown[]]) {
            const lines = frame(
              shown,
              { columns, rows },
              'a hint that is long enough to be cut on small terminals',
              theme,
            );
            if (rows >= 10) expect(lines.length).toBeLessThan(rows);
            for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(columns);
          }
        }
      }
    }
  });

  it('says what a torrent without metadata, one that is checked and one that failed are about', () => {
    const page = (stats: Partial<TorrentStats>, failed = false): string =>
      frame([{ ...SHOWN, failed, stats: { ...STATS, ...stats } }], { columns: 80, rows: 24 }, 'hint', plain).join('\n');
    const search = page({ state: 'metadata', bytesTotal: 0, bytesDone: 0, peers: 2, candidates: 7 });
    expect(search).toContain('asking for the metadata   2 peers, 7 more known, 120 DHT nodes');
    expect(page({ state: 'checking', checking: 0.25 })).toContain('25%');
    expect(page({ state: 'seeding', upRate: 2048 })).toContain('2.00 KiB/s');
    expect(page({ peers: 0 })).toContain('looking for peers   0 peers, 1 more known, 120 DHT nodes');
    expect(page({}, true)).toContain('failed');
  });
});

describe('bars', () => {
  it('fill in eighths', () => {
    expect(progressBar(0.5, 4, plain)).toBe('██░░');
    expect(progressBar(0.5625, 2, plain)).toBe('█▏');
    expect(progressBar(2, 3, plain)).toBe('███');
    expect(progressBar(0.5, 4, ascii)).toBe('##--');
  });

  it('map two samples to a character', () => {
    expect(pieceMap(Uint8Array.of(3, 3, 0, 3, 2, 0, 1, 0), 4, 1, plain)).toEqual(['█▐▌░']);
    expect(pieceMap(Uint8Array.of(3, 0), 2, 1, plain)).toEqual(['█·']);
    expect(pieceMap(new Uint8Array(10_000).fill(3), 10, 3, plain)).toEqual(Array(3).fill('█'.repeat(10)));
  });

  it('lose no piece: a map is full only when all is there', () => {
    const pieces = new Uint8Array(5000).fill(3);
    for (const missing of [0, 77, 2500, 4999]) {
      const holed = pieces.slice();
      holed[missing] = 0;
      expect(pieceMap(holed, 20, 2, colored)).not.toEqual(pieceMap(pieces, 20, 2, colored));
    }
  });
});
