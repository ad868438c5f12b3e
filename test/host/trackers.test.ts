/** A session and its trackers on the real machine: UDP and HTTP, over IPv4 and IPv6, edited while it runs. */

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { expect, onTestFinished, test } from 'vitest';
import { Session, type SessionOptions, type Torrent } from '../../packages/engine/dist/src/index.js';
import { UdpTracker } from '../interop/harness/udp-tracker.ts';
import { tempFolder } from './support.ts';

const HASH = '0123456789abcdef0123456789abcdef01234567';
const MAGNET = `magnet:?xt=urn:btih:${HASH}`;
const hasIpv6 = (networkInterfaces()['lo'] ?? []).some(({ family }) => family === 'IPv6');
const both = hasIpv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1'];

function session(options: SessionOptions = {}): Session {
  const made = new Session({
    bind: both,
    dht: false,
    lsd: false,
    pex: false,
    memory: 2 << 20,
    hashThreads: 1,
    ...options,
  });
  onTestFinished(() => made.close());
  return made;
}

async function udpTracker(ips: readonly string[] = both): Promise<UdpTracker> {
  const tracker = new UdpTracker();
  await tracker.start(ips);
  onTestFinished(() => tracker.stop());
  return tracker;
}

/** Answers every announce the same; what it heard as "family event". */
async function httpTracker(ips: readonly string[] = both): Promise<{ port: number; heard: string[] }> {
  const heard: string[] = [];
  let port = 0;
  for (const ip of ips) {
    const server = http.createServer((request, response) => {
      const { searchParams } = new URL(request.url ?? '', 'http://x');
      heard.push(`${request.socket.remoteFamily} ${searchParams.get('event')}`);
      response.end('d8:intervali1800e5:peers0:e');
    });
    await new Promise<void>((resolve) => server.listen({ host: ip, port, ipv6Only: true }, resolve));
    port = (server.address() as AddressInfo).port;
    onTestFinished(() => void server.close());
  }
  return { port, heard };
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error('it did not come');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const states = (torrent: Torrent): unknown[] => torrent.trackers().map(({ url, status }) => [url, status]);

test.skipIf(!hasIpv6)('UDP: over both families, with the whole URL, told stopped over both', async () => {
  const tracker = await udpTracker();
  tracker.peers = { 4: Buffer.from('7f0000020050', 'hex'), 6: Buffer.from('fd000000000000000000000000000001', 'hex') };
  tracker.peers[6] = Buffer.concat([tracker.peers[6], Buffer.from('0051', 'hex')]);
  const made = session();
  const data = `/announce/${'k'.repeat(300)}?passkey=a%20b&x=${'y'.repeat(300)}`;
  const url = `udp://tracker.localhost:${tracker.port}${data}`;
  const torrent = await made.add(MAGNET, { folder: tempFolder(), trackers: [url] });
  await tracker.heard((all) => all.length === 2);
  const [one, other] = tracker.announces;
  expect([one!.family, other!.family].sort()).toEqual([4, 6]);
  expect(one!.key).toBe(other!.key);
  expect(one!.options.map(({ type, text }) => [type, text.length])).toEqual([
    [2, 255],
    [2, 255],
    [2, data.length - 510],
  ]);
  expect(one!.options.map(({ text }) => text).join('')).toBe(data);
  expect(one).toMatchObject({ infoHash: HASH, event: 2, ip: 0, numWant: 200, left: 16384n });
  expect(one!.port).toBe(made.addresses[0]!.port);
  await until(() => torrent.trackers()[0]!.peers === 2);
  const [status] = torrent.trackers();
  expect(status).toMatchObject({ url, status: 'working', seeders: 4, leechers: 3, fails: 0, message: null });
  expect(status!.families).toMatchObject([
    { family: 4, status: 'working', peers: 1 },
    { family: 6, status: 'working', peers: 1 },
  ]);
  expect(torrent.scrape()).toBe(true);
  await until(() => torrent.trackers()[0]!.downloads === 6);
  expect(torrent.trackers()[0]).toMatchObject({ seeders: 5, leechers: 7 });
  expect(tracker.scrapes).toEqual([[HASH]]);
  await made.close();
  expect(
    tracker.announces
      .slice(2)
      .map(({ family, event, numWant }) => `${family} ${event} ${numWant}`)
      .sort(),
  ).toEqual(['4 3 0', '6 3 0']);
  expect(tracker.rubbish).toEqual([]);
});

test.skipIf(!hasIpv6)('HTTP: over both families', async () => {
  const tracker = await httpTracker();
  const made = session();
  const torrent = await made.add(MAGNET, {
    folder: tempFolder(),
    trackers: [`http://tracker.localhost:${tracker.port}/announce`],
  });
  await until(() => torrent.trackers()[0]!.families.every(({ status }) => status === 'working'));
  await made.close();
  expect(tracker.heard.slice(0, 2).sort()).toEqual(['IPv4 started', 'IPv6 started']);
  expect(tracker.heard.slice(2).sort()).toEqual(['IPv4 stopped', 'IPv6 stopped']);
});

test.skipIf(!hasIpv6)('a tracker with one family works; the other says why it does not', async () => {
  const four = await httpTracker(['127.0.0.1']);
  const six = await udpTracker(['::1']);
  const made = session({ announceMode: 'all' });
  const torrent = await made.add(MAGNET, {
    folder: tempFolder(),
    trackers: [`http://tracker.localhost:${four.port}/announce`, `udp://[::1]:${six.port}`],
  });
  await until(() => torrent.trackers().every(({ status }) => status === 'working'));
  await until(() => torrent.trackers()[0]!.families[1]!.status === 'failed');
  expect(torrent.trackers()[0]!.families[1]!.message).toMatch(/refused/i);
  expect(torrent.trackers()[1]!.families).toHaveLength(1);
});

test('a session that does not listen asks UDP trackers too; one dead tracker is passed over', async () => {
  const dead = await udpTracker(['127.0.0.1']);
  await dead.stop();
  const tracker = await udpTracker(['127.0.0.1']);
  const made = session({ port: null, bind: ['127.0.0.1'], announceMode: 'all-tiers' });
  const torrent = await made.add(MAGNET, {
    folder: tempFolder(),
    trackers: [`udp://127.0.0.1:${dead.port}`, `udp://127.0.0.1:${tracker.port}/announce`],
  });
  await tracker.heard((all) => all.length === 1);
  await until(() => torrent.trackers()[1]!.status === 'working');
  expect(torrent.trackers()[0]!.status).toBe('announcing');
});

test('trackers are edited while it runs, and that is remembered', async () => {
  const [a, b, c] = [
    await udpTracker(['127.0.0.1']),
    await udpTracker(['127.0.0.1']),
    await httpTracker(['127.0.0.1']),
  ];
  const urls = [`udp://127.0.0.1:${a.port}`, `udp://127.0.0.1:${b.port}/b`, `http://127.0.0.1:${c.port}/announce`];
  const state = tempFolder();
  const folder = tempFolder();
  const made = session({ state, bind: ['127.0.0.1'] });
  const torrent = await made.add(MAGNET, { folder, trackers: [urls[0]!] });
  await a.heard((all) => all.length === 1);
  await until(() => torrent.trackers()[0]!.status === 'working');

  expect(() => torrent.addTrackers(['gopher://x'])).toThrow(/not a tracker/);
  expect(torrent.addTrackers([urls[1]!, urls[0]!])).toBe(1);
  expect(torrent.removeTracker('udp://127.0.0.1:1')).toBe(false);
  expect(torrent.removeTracker(urls[0]!)).toBe(true);
  await a.heard((all) => all[1]?.event === 3);
  await b.heard((all) => all[0]?.event === 2);
  await until(() => torrent.trackers()[0]!.status === 'working');
  expect(torrent.replaceTracker(urls[1]!, urls[2]!)).toBe(true);
  await b.heard((all) => all[1]?.event === 3);
  await until(() => c.heard.length === 1);
  await until(() => torrent.trackers()[0]!.status === 'working');
  expect(states(torrent)).toEqual([[urls[2], 'working']]);
  torrent.setTrackers([[urls[2]!], [urls[1]!]]);
  await made.close();
  expect(c.heard).toEqual(['IPv4 started', 'IPv4 stopped']);

  const second = session({ state, bind: ['127.0.0.1'] });
  const [restored] = await second.restore();
  expect(restored!.trackers().map(({ url, tier }) => [url, tier])).toEqual([
    [urls[2], 0],
    [urls[1], 1],
  ]);
  restored!.setTrackers([]);
  await second.close();

  const third = session({ state, bind: ['127.0.0.1'] });
  const again = await third.add(`${MAGNET}&tr=${encodeURIComponent(urls[0]!)}`, { folder });
  expect(again.trackers()).toEqual([]);
  await third.close();
  expect(a.announces).toHaveLength(2);
});
