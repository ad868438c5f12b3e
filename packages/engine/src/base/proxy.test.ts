import { expect, test } from 'vitest';
import { isNameAddress, NAME_ADDRESS_COUNT, nameAddress } from './name-address.ts';
import { type ProxySettings, proxyLabel, type Traffic, type Way, wayOf } from './proxy.ts';

const ALL: readonly Traffic[] = [
  'peer-tcp',
  'peer-utp',
  'dht',
  'peer-name',
  'udp-tracker',
  'http-tracker',
  'tracker-name',
  'web-seed',
  'fetch',
  'lsd',
  'port-map',
  'incoming',
];
const proxy: ProxySettings = {
  kind: 'socks5',
  host: 'p.example',
  port: 1080,
  user: 'me',
  password: 'secret',
  peers: true,
  trackers: true,
};

function ways(settings: ProxySettings | null): Record<Way, Traffic[]> {
  const found: Record<Way, Traffic[]> = { direct: [], proxy: [], off: [] };
  for (const traffic of ALL) found[wayOf(traffic, settings)].push(traffic);
  return found;
}

test('behind a proxy nothing is direct', () => {
  expect(ways(null)).toEqual({ direct: ALL, proxy: [], off: [] });
  expect(ways(proxy)).toEqual({ direct: [], proxy: ALL.slice(0, 9), off: ['lsd', 'port-map', 'incoming'] });
  const off = ['peer-utp', 'dht', 'udp-tracker', 'lsd', 'port-map', 'incoming'];
  for (const kind of ['socks4', 'http'] as const) {
    const found = ways({ ...proxy, kind });
    expect(found.direct).toEqual([]);
    expect(found.off).toEqual(off);
  }
});

test('each switch lets out what is its own', () => {
  const trackers: Traffic[] = ['udp-tracker', 'http-tracker', 'tracker-name'];
  expect(ways({ ...proxy, trackers: false }).direct).toEqual(trackers);
  expect(ways({ ...proxy, peers: false }).proxy).toEqual([...trackers, 'fetch']);
  expect(ways({ ...proxy, peers: false }).off).toEqual([]);
  expect(ways({ ...proxy, peers: false, trackers: false }).proxy).toEqual(['fetch']);
});

test('a label has no password', () => {
  expect(proxyLabel(proxy)).toBe('the SOCKS5 proxy p.example:1080');
  expect(proxyLabel({ ...proxy, host: '::1', kind: 'http' })).toBe('the HTTP proxy [::1]:1080');
});

test('addresses that stand for names are of one network', () => {
  expect(nameAddress(0)).toBe('198.18.0.0');
  expect(nameAddress(NAME_ADDRESS_COUNT - 1)).toBe('198.19.255.255');
  for (const number of [0, 255, 256, 65536]) expect(isNameAddress(nameAddress(number))).toBe(true);
  for (const ip of ['198.17.1.1', '198.180.1.1', '19.18.1.1', '::']) expect(isNameAddress(ip)).toBe(false);
  expect(isNameAddress(new Uint8Array([198, 19, 3, 4]))).toBe(true);
});
