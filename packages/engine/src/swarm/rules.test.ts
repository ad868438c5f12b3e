import { describe, expect, it } from 'vitest';
import { parseIp } from '../base/ip.ts';
import { IpRangesBuilder } from '../base/ip-ranges.ts';
import { AddressRules } from './address-rules.ts';
import { ClientRules } from './client-rules.ts';

describe('address rules', () => {
  it('bans for a time, with a reason, and takes it back', () => {
    const turn = { now: 1000 };
    const rules = new AddressRules(turn);
    let calls = 0;
    rules.onBlocked = () => calls++;
    expect(rules.ban('nobody', 'x')).toBe(false);
    expect(rules.ban('::ffff:1.2.3.4', 'lied', 500)).toBe(true);
    expect(calls).toBe(1);
    expect(rules.bans()).toEqual([{ ip: '1.2.3.4', reason: 'lied', sinceMs: 1000, untilMs: 1500 }]);
    expect([rules.blocks('1.2.3.4'), rules.blocks(parseIp('1.2.3.4')!), rules.blocks('1.2.3.5')]).toEqual([
      true,
      true,
      false,
    ]);
    turn.now = 1500;
    expect([rules.blocks('1.2.3.4'), rules.bans().length]).toEqual([false, 0]);
    rules.ban('2001:db8::1', 'lied');
    expect([rules.unban('2001:DB8:0::1'), rules.unban('2001:db8::1')]).toEqual([true, false]);
    expect(rules.isEmpty).toBe(true);
  });

  it('keeps the newest of too many bans', () => {
    const rules = new AddressRules({ now: 0 });
    for (let i = 0; i < 5000; i++) rules.ban(`10.1.${i >> 8}.${i & 255}`, '');
    expect(rules.bans()).toHaveLength(4096);
    expect([rules.blocks('10.1.0.0'), rules.blocks('10.1.19.135')]).toEqual([false, true]);
  });

  it('blocks what a list holds', () => {
    const rules = new AddressRules({ now: 0 });
    const builder = new IpRangesBuilder();
    builder.add(parseIp('5.0.0.0')!, parseIp('5.0.0.255')!);
    rules.setRanges(builder.build());
    expect([rules.blocks('5.0.0.7'), rules.blocks('5.0.1.0'), rules.rangeCount]).toEqual([true, false, 1]);
    // as a DHT or PEX may write it
    const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 5, 0, 0, 7);
    expect(rules.blocks(mapped)).toBe(true);
    rules.setRanges(null);
    expect(rules.blocks('5.0.0.7')).toBe(false);
  });
});

describe('client rules', () => {
  it('decides by the first rule that fits', () => {
    const rules = new ClientRules([
      { action: 'allow', client: 'Transmission', from: '2.94' },
      { action: 'deny', client: 'transmission' },
      { action: 'deny', client: 'Xunlei' },
      { action: 'deny', client: 'qBittorrent', below: '4.6' },
    ]);
    const yes = [
      'Transmission 3.00',
      'Transmission 2.94',
      'qBittorrent 4.6.2',
      'qBittorrent/v4.10.0',
      'rTorrent',
      'qBittorrent',
    ];
    const no = ['Transmission 2.93', 'TRANSMISSION', 'Xunlei 0.0.1', 'qBittorrent 4.5.2'];
    expect(yes.map((name) => rules.allows(name))).toEqual(yes.map(() => true));
    expect(no.map((name) => rules.allows(name))).toEqual(no.map(() => false));
  });

  it('can let in nobody but some', () => {
    const rules = new ClientRules([
      { action: 'allow', client: 'Shoal' },
      { action: 'deny', client: '' },
    ]);
    expect([rules.allows('Shoal 0.1'), rules.allows('other')]).toEqual([true, false]);
  });
});
