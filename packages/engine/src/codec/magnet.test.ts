import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quickestMs } from '../../test/quickest.ts';
import { concat, toHex } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import { sha1 } from '../base/hash.ts';
import { formatMagnet, formatPublisher, parseMagnet, parsePublisher } from './magnet.ts';

const HEX = '0123456789abcdef0123456789abcdef01234567';
const V1 = `magnet:?xt=urn:btih:${HEX}`;
const V2 = `1220${'ab'.repeat(32)}`;

describe('parseMagnet', () => {
  it('reads hashes in hex, base32 and multihash', () => {
    expect(toHex(parseMagnet(V1).infoHash!)).toBe(HEX);
    expect(toHex(parseMagnet(V1.toUpperCase()).infoHash!)).toBe(HEX);
    expect(toHex(parseMagnet('magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH').infoHash!)).toBe(HEX);
    const v2 = parseMagnet(`magnet:?xt=urn:btmh:${V2}`);
    expect([v2.infoHash, toHex(v2.infoHashV2!), v2.swarmHash.length]).toEqual([null, 'ab'.repeat(32), 20]);
    const both = parseMagnet(`${V1}&xt=urn:btmh:${V2}`);
    expect([toHex(both.swarmHash), toHex(both.infoHashV2!)]).toEqual([HEX, 'ab'.repeat(32)]);
    expect(toHex(parseMagnet(`magnet:?xt.1=urn:btih:${HEX}&xt.2=urn:sha1:AAAA`).infoHash!)).toBe(HEX);
    expect(toHex(parseMagnet(`magnet:?xt=urn%3Abtih%3A${HEX}`).infoHash!)).toBe(HEX);
  });

  it.each([
    '',
    'magnet:',
    'magnet:?',
    'http://x/?xt=urn:btih:0',
    'magnet:?dn=x',
    'magnet:?xt=urn:btih:',
    `magnet:?xt=urn:btih:${HEX}0`,
    `magnet:?xt=urn:btih:${HEX.slice(1)}g`,
    'magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRL1',
    `magnet:?xt=urn:btmh:1320${'ab'.repeat(32)}`,
    `magnet:?xt=urn:btmh:${'ab'.repeat(34)}`,
    `${V1}&xt=urn:btih:${'1'.repeat(40)}`,
  ])('refuses %j', (text) => {
    expect(() => parseMagnet(text)).toThrow(expect.objectContaining({ code: 'bad-magnet' }));
  });

  it('reads the rest, in any case and with numbers', () => {
    const magnet = parseMagnet(
      `${V1}&DN=A+file%20%C3%BC&tr=udp%3A%2F%2Ft.example%3A80%2Fa&tr.1=http://u.example/announce&tr=ftp://x/&tr=` +
        '&amp;tr.2=https://v.example/a&ws=http%3A%2F%2Fw.example%2F&x.pe=1.2.3.4:5&x.pe=%5B::1%5D:6&x.pe=host.example:7' +
        '&x.pe=nonsense&so=0,2,4-6,5,x,-1,9-8&novalue&=&&tr=udp%3A%2F%2Ft.example%3A80%2Fa#fragment&tr=http://no/',
    );
    expect(magnet.name).toBe('A file ü');
    expect(magnet.trackers).toEqual(['udp://t.example:80/a', 'http://u.example/announce', 'https://v.example/a']);
    expect(magnet.webSeeds).toEqual(['http://w.example/']);
    expect(magnet.peers).toEqual([
      { host: '1.2.3.4', port: 5 },
      { host: '::1', port: 6 },
      { host: 'host.example', port: 7 },
    ]);
    expect(magnet.select).toEqual([0, 2, 4, 5, 6]);
    expect(parseMagnet(`${V1}&so=5-9,0-2,7-11,1`).select).toEqual([0, 1, 2, 5, 6, 7, 8, 9, 10, 11]);
    expect(parseMagnet(V1).select).toBeNull();
  });

  it('takes broken percent signs as they are', () => {
    expect(parseMagnet(`${V1}&dn=100%&dn=x`).name).toBe('100%');
    expect(parseMagnet(`${V1}&dn=%zz%4`).name).toBe('%zz%4');
    expect(parseMagnet(`${V1}&dn=%ff%fe`).name).toBe('\ufffd\ufffd');
  });

  it('caps ranges', () => {
    expect(parseMagnet(`${V1}&so=1-999999999,3-999999999,0`).select!.length).toBe(131072);
  });

  it('is linear: 10,000 trackers, and a megabyte of anything', () => {
    const trackers = Array.from({ length: 10_000 }, (_, i) => `&tr=${encodeURIComponent(`http://t${i}.example/a`)}`);
    const link = V1 + trackers.join('');
    expect(quickestMs(200, () => expect(parseMagnet(link).trackers.length).toBe(10_000))).toBeLessThan(200);
    for (const part of ['&', '%', 'a', '=', '&so=0-1000000', '&dn=%25', ' ', '&xt=urn:btih:']) {
      const long = V1 + part.repeat(Math.floor(1_000_000 / part.length));
      const tookMs = quickestMs(800, () => {
        try {
          parseMagnet(long);
        } catch (error) {
          expect(error).toBeInstanceOf(ShoalError);
        }
      });
      expect(tookMs, part).toBeLessThan(800);
    }
  });
});

describe('formatMagnet', () => {
  it('is read back', () => {
    const url = fc.webUrl({ withQueryParameters: true, withFragments: true });
    const parts = fc.record({
      infoHash: fc.uint8Array({ minLength: 20, maxLength: 20 }),
      infoHashV2: fc.option(fc.uint8Array({ minLength: 32, maxLength: 32 })),
      name: fc.string({ unit: 'grapheme', minLength: 1 }).map((name) => `x${name}x`),
      trackers: fc.uniqueArray(url, { maxLength: 4 }),
      webSeeds: fc.uniqueArray(url, { maxLength: 4 }),
      peers: fc.constantFrom([], [{ host: '::1', port: 6 }], [{ host: '1.2.3.4', port: 65535 }]),
      select: fc.uniqueArray(fc.nat(50), { minLength: 1 }).map((list) => list.sort((a, b) => a - b)),
    });
    fc.assert(
      fc.property(parts, (given) => {
        expect(parseMagnet(formatMagnet(given))).toEqual({ ...given, swarmHash: given.infoHash });
      }),
    );
    expect(() => formatMagnet({ infoHash: new Uint8Array(20), infoHashV2: null, name: '\ud800' })).not.toThrow();
  });
});

describe('parsePublisher', () => {
  // BEP 46's test vectors
  const key = '8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e';
  const link = `magnet:?xs=urn:btpk:${key}`;

  it('reads and writes the links of BEP 46, whose targets are the ones given there', () => {
    const bare = parsePublisher(link)!;
    expect([toHex(bare.publicKey), bare.salt.length, bare.name]).toEqual([key, 0, null]);
    expect(toHex(sha1(bare.publicKey))).toBe('cc3f9d90b572172053626f9980ce261a850d050b');
    const salted = parsePublisher(`${link}&s=6e`)!;
    expect(toHex(sha1(concat([salted.publicKey, salted.salt])))).toBe('59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f');
    expect(formatPublisher(bare)).toBe(link);
    expect(formatPublisher(salted)).toBe(`${link}&s=6e`);
  });

  it('reads them in any case, with all that helps to find the torrent', () => {
    const full = `${link}&s=6E6f&dn=Tide%20table&tr=http%3A%2F%2Ft.example%2Fa&x.pe=1.2.3.4:5&so=0,2`;
    const publisher = parsePublisher(full.toUpperCase().replace('HTTP%3A%2F%2FT.EXAMPLE%2FA', 'http://t.example/a'))!;
    expect([toHex(publisher.publicKey), toHex(publisher.salt)]).toEqual([key, '6e6f']);
    expect(publisher).toMatchObject({
      trackers: ['http://t.example/a'],
      peers: [{ host: '1.2.3.4', port: 5 }],
      select: [0, 2],
    });
    expect(parsePublisher(formatPublisher(publisher))).toEqual(publisher);
    expect(toHex(parsePublisher(`magnet:?xs=http://x/&xs=urn%3Abtpk%3A${key}&xt=urn:sha1:AA`)!.publicKey)).toBe(key);
  });

  it('takes other links for what they are', () => {
    expect(parsePublisher(V1)).toBeNull();
    expect(parsePublisher('magnet:?xs=http://x/')).toBeNull();
    expect(parsePublisher(`${link}&xt=urn:btih:${HEX}`)).toBeNull();
    expect(toHex(parseMagnet(`${link}&xt=urn:btih:${HEX}`).infoHash!)).toBe(HEX);
    expect(() => parseMagnet(link)).toThrow('names a publisher');
  });

  it.each([
    `xs=urn:btpk:${key.slice(1)}`,
    `xs=urn:btpk:${key}00`,
    `xs=urn:btpk:${key.slice(1)}g`,
    'xs=urn:btpk:',
    `xs=urn:btpk:${key}&xs=urn:btpk:${'00'.repeat(32)}`,
    `xs=urn:btpk:${key}&s=abc`,
    `xs=urn:btpk:${key}&s=xy`,
    `xs=urn:btpk:${key}&s=${'00'.repeat(65)}`,
  ])('refuses %s', (query) => {
    expect(() => parsePublisher(`magnet:?${query}`)).toThrow(
      expect.objectContaining({ code: 'bad-magnet', message: expect.stringMatching(/key|salt/) }),
    );
  });
});

it('random and mutated links throw nothing but ShoalError', () => {
  const unit = fc.constantFrom(
    ...'magnet:?xtdnrws.pe=&%0aF-,[]\u00ff\ud800',
    V1,
    '&so=',
    '&x.pe=',
    'urn:btmh:1220',
    'xs=urn:btpk:',
    '&s=',
  );
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 60 }), (text) => {
      for (const link of [text, V1 + text, `magnet:?${text}`]) {
        for (const parse of [parseMagnet, parsePublisher]) {
          try {
            parse(link);
          } catch (error) {
            expect(error).toBeInstanceOf(ShoalError);
          }
        }
      }
    }),
    { numRuns: 3000 },
  );
});
