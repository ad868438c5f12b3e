import { endianness } from 'node:os';
import { expect, test } from 'vitest';
import { gatewaysV4, gatewaysV6 } from './gateways.ts';

const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT';

test.skipIf(endianness() === 'BE')('reads the routers of /proc/net/route', () => {
  const table = [
    HEAD,
    'eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0',
    'wlan0\t00000000\tFE02A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0',
    // a network of our own, a route that is down, one to a single network
    'eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0',
    'eth1\t00000000\t0101A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0',
    'eth0\t0000000A\t0201A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0',
    // a VPN before all of them
    'tun0\t00000000\t0100080A\t0003\t0\t0\t50\t00000080\t0\t0\t0',
    'broken\t0',
    '',
  ].join('\n');
  const found = gatewaysV4(table).sort((a, b) => a.metric - b.metric);
  expect(found.map(({ ip, interfaceName }) => `${ip} ${interfaceName}`)).toEqual([
    '10.8.0.1 tun0',
    '192.168.1.1 eth0',
    '192.168.2.254 wlan0',
  ]);
  expect(gatewaysV4('')).toEqual([]);
});

test('reads the routers of /proc/net/ipv6_route', () => {
  const zero = '0'.repeat(32);
  const table = [
    `${zero} 00 ${zero} 00 fe800000000000000000000000000001 00000400 00000002 00000000 00000003     eth0`,
    `${zero} 00 ${zero} 00 20010db8000000000000000000000001 00000100 00000002 00000000 00000003     eth1`,
    `20010db8000000000000000000000000 40 ${zero} 00 ${zero} 00000100 00000001 00000000 00000001     eth0`,
    `${zero} 00 ${zero} 00 ${zero} ffffffff 00000001 00000000 00200200       lo`,
    '',
  ].join('\n');
  expect(gatewaysV6(table).map(({ ip, interfaceName }) => `${ip} ${interfaceName}`)).toEqual([
    'fe80::1%eth0 eth0',
    '2001:db8::1 eth1',
  ]);
});
