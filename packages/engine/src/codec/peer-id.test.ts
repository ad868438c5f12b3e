import { describe, expect, it } from 'vitest';
import { latin1, utf8Encode } from '../base/bytes.ts';
import { Rng } from '../base/random.ts';
import { clientName, makePeerId, PEER_ID_PREFIX } from './peer-id.ts';

describe('peer ids', () => {
  it('are ours, printable and different each time', () => {
    const rng = new Rng(Uint32Array.of(1, 2, 3, 4));
    const one = latin1(makePeerId(rng));
    expect(one).toMatch(/^-SL\d{4}-[\w-]{12}$/);
    expect(latin1(makePeerId(rng))).not.toBe(one);
    expect(one.startsWith(PEER_ID_PREFIX)).toBe(true);
    expect(clientName(utf8Encode(one))).toBe('Shoal 0.1');
  });

  it.each([
    ['-qB4620-', 'qBittorrent 4.6.2'],
    ['-TR2940-', 'Transmission 2.94'],
    ['-TR4050-', 'Transmission 4.0.5'],
    ['-TR410Z-', 'Transmission 4.1 beta'],
    ['-TR0072-', 'Transmission 0.72'],
    ['-LT20A0-', 'libtorrent 2.0.10'],
    ['-lt0D80-', 'libTorrent (rakshasa) 0.13.8'],
    ['-DE13F0-', 'Deluge 1.3.15'],
    ['-DE211s-', 'Deluge 2.1.1'],
    ['-UT355W\x12\xac', 'µTorrent 3.5.5'],
    ['-BT7a5S\x00', 'BitTorrent 7.36.5'],
    ['-WW0208-', 'WebTorrent 2.8'],
    ['-BI3500-', 'BiglyBT 3.5'],
    ['-AZ5770-', 'Vuze 5.7.7'],
    ['A2-1-37-0-', 'aria2 1.37.0'],
    ['M7-10-5--', 'BitTorrent 7.10.5'],
    ['S58B-----', 'Shadow 5.8.11'],
    ['T03I-----', 'BitTornado 0.3.18'],
    ['exbc\x00\x38LORD', 'BitLord 0.56'],
    ['exbc\x01\x02', 'BitComet 1.02'],
    ['TIX0253-', 'Tixati 2.53'],
    ['-ML2.7.2-', 'MLdonkey 2.7.2'],
    ['XBT054d-', 'XBT Client 0.5.4'],
    ['-ZY1230-', 'ZY 1.2.3'],
    ['\x00\x03BS', 'BitSpirit 3'],
    ['\x1b[31mevil', 'unknown (.[31mevi)'],
    ['--------', 'unknown (--------)'],
  ])('%j is %s', (start, name) => {
    const id = new Uint8Array(20).fill(120);
    id.set(Uint8Array.from(start, (c) => c.charCodeAt(0)));
    expect(clientName(id)).toBe(name);
  });

  it('never fail, whatever the bytes', () => {
    const rng = new Rng(Uint32Array.of(5, 6, 7, 8));
    for (let i = 0; i < 5000; i++) {
      const id = new Uint8Array(i % 25);
      rng.fill(id);
      if (i % 2 === 0 && id.length > 7) id.set(utf8Encode('-'), 0);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: controls must not come out
      expect(clientName(id)).toMatch(/^[^\x00-\x1f\x7f-\x9f]+$/);
    }
  });
});
