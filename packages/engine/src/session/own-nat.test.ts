/** When a session thinks that it is behind a NAT. */

import { expect, test } from 'vitest';
import type { NetInterface } from '../base/ports.ts';
import type { SessionCore } from './core.ts';
import { OwnNat } from './own-nat.ts';

const OUTSIDE = '93.184.216.34';

function natOf(own: readonly string[], bind: readonly string[] = ['0.0.0.0'], mappedPort = 0): OwnNat {
  const interfaces = (): readonly NetInterface[] => own.map((ip) => ({ name: 'eth0', ip, prefix: 24 }) as NetInterface);
  const core = { turn: { now: 0 }, mappedPort, binding: { addresses: bind }, ports: { net: { interfaces } } };
  return new OwnNat(core as unknown as SessionCore);
}

test.each([
  ['private addresses', natOf(['127.0.0.1', '192.168.1.2', '2001:db8::1']), OUTSIDE, true],
  ['one of them private, and that is used', natOf(['192.168.1.2', '93.184.216.1'], ['192.168.1.2']), OUTSIDE, true],
  ['a public one', natOf(['192.168.1.2', '93.184.216.1']), OUTSIDE, false],
  ['a port that a router forwards', natOf(['192.168.1.2'], ['0.0.0.0'], 6881), OUTSIDE, false],
  ['a peer in our network', natOf(['192.168.1.2']), '192.168.1.3', false],
  ['a peer over IPv6', natOf(['192.168.1.2']), '2001:db8::2', false],
])('%s', (_name, nat, remote, hides) => {
  expect(nat.hidesFrom(remote)).toBe(hides);
});

test('no longer when somebody came in from outside', () => {
  const nat = natOf(['192.168.1.2']);
  nat.cameIn('192.168.1.3');
  expect(nat.hidesFrom(OUTSIDE)).toBe(true);
  nat.cameIn(OUTSIDE);
  expect(nat.hidesFrom(OUTSIDE)).toBe(false);
});
