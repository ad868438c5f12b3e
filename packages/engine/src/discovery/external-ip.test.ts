import { describe, expect, it } from 'vitest';
import { parseIp } from '../base/ip.ts';
import { ExternalIp, type VoterKind } from './external-ip.ts';

const US = '198.51.100.9';
const OTHER = '203.0.113.66';

function vote(external: ExternalIp, ip: string, from: string, kind: VoterKind = 'dht', now = 0): boolean {
  return external.vote(now, parseIp(ip)!, from, kind);
}

describe('the external address', () => {
  it('takes several voters of different networks, and says when it changes', () => {
    const external = new ExternalIp();
    expect(vote(external, US, '5.0.0.1')).toBe(false);
    for (let i = 2; i < 250; i++) expect(vote(external, US, `5.0.0.${i}`)).toBe(false);
    expect(vote(external, US, '5.0.1.1')).toBe(false);
    expect(external.ip4).toBeNull();
    expect(vote(external, US, '5.0.2.1')).toBe(true);
    expect(vote(external, US, '5.0.3.1')).toBe(false);
    expect([external.ip4, external.ip6]).toEqual([US, null]);
  });

  it('counts a /64 of v6 once, and keeps the families apart', () => {
    const external = new ExternalIp();
    for (let i = 1; i < 20; i++) expect(vote(external, '2001:db8::9', `2001:db8:0:1::${i}`)).toBe(false);
    expect(vote(external, US, '2001:db8:0:2::1')).toBe(false);
    expect(vote(external, '2001:db8::9', '5.0.0.1')).toBe(false);
    expect(vote(external, '2001:db8::9', '2001:db8:0:2::1')).toBe(false);
    expect(vote(external, '2001:db8::9', '2001:db8:0:3::1')).toBe(true);
    expect([external.ip4, external.ip6]).toEqual([null, '2001:db8::9']);
  });

  it('does not follow a minority, whatever it says and however often', () => {
    const external = new ExternalIp();
    for (let i = 0; i < 20; i++) vote(external, US, `5.0.${i}.1`);
    for (let round = 0; round < 100; round++) {
      for (let i = 0; i < 15; i++) vote(external, OTHER, `6.0.${i}.${1 + round}`);
    }
    expect(external.ip4).toBe(US);
  });

  it('follows a real change after a minute, as old votes are overwritten, pushed out or expire', () => {
    const minute = 60_000;
    const overwritten = new ExternalIp();
    for (let i = 0; i < 30; i++) vote(overwritten, US, `5.0.${i}.1`);
    for (let i = 0; i < 30; i++) vote(overwritten, OTHER, `5.0.${i}.1`);
    expect(overwritten.ip4).toBe(US);
    expect(vote(overwritten, OTHER, '5.0.0.1', 'dht', minute - 1)).toBe(false);
    expect(vote(overwritten, OTHER, '5.0.1.1', 'dht', minute)).toBe(true);
    const pushed = new ExternalIp();
    for (let i = 0; i < 200; i++) vote(pushed, US, `5.0.${i}.1`);
    for (let i = 0; i < 25; i++) vote(pushed, OTHER, `6.0.${i}.1`, 'dht', i * 10_000);
    expect(pushed.ip4).toBe(OTHER);
    const expired = new ExternalIp();
    for (let i = 0; i < 40; i++) vote(expired, US, `5.0.${i}.1`, 'dht', 0);
    for (let i = 0; i < 12; i++) vote(expired, OTHER, `6.0.${i}.1`, 'dht', 60 * minute + i * 10_000);
    expect(expired.ip4).toBe(OTHER);
  });

  it('is not changed by a crowd of liars met in one lookup', () => {
    const external = new ExternalIp();
    for (let i = 0; i < 48; i++) vote(external, US, `5.0.${i}.1`, 'dht', i * 1000);
    for (let i = 0; i < 200; i++) vote(external, OTHER, `6.0.${i}.1`, 'dht', 48_000 + 10 * i);
    expect(external.ip4).toBe(US);
  });

  it('believes a tracker and one more, or the router and one more', () => {
    for (const kind of ['tracker', 'router'] as const) {
      const external = new ExternalIp();
      expect(vote(external, US, '192.168.1.1', kind)).toBe(false);
      expect(vote(external, US, '5.0.0.1')).toBe(true);
    }
  });

  it('lets local addresses count among local voters alone, and impossible ones never', () => {
    const external = new ExternalIp();
    for (let i = 0; i < 10; i++) {
      for (const ip of ['10.0.0.5', '127.0.0.1', '0.0.0.0', '255.255.255.255', '224.0.0.1']) {
        expect(vote(external, ip, `5.0.${i}.1`)).toBe(false);
      }
      expect(vote(external, '100.64.0.9', `192.168.${i}.1`, 'router')).toBe(false);
      expect(external.vote(0, new Uint8Array(5), `5.0.${i}.1`, 'dht')).toBe(false);
      expect(vote(external, US, 'no address')).toBe(false);
    }
    expect(external.ip4).toBeNull();
    for (let i = 0; i < 3; i++) vote(external, '10.0.0.5', `10.0.${i}.1`);
    expect(external.ip4).toBe('10.0.0.5');
  });
});
