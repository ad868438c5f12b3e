import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, utf8Encode } from '../base/bytes.ts';
import { encode } from '../codec/bencode.ts';
import { type AnnounceAsk, MAX_PEERS, trackerProtocol } from './tracker.ts';
import { announceUrl, parseAnnounce, parseScrape, percentEncode, scrapeUrl } from './tracker-http.ts';

const PUBLIC = '93.184.216.34';
const HASH = Uint8Array.from({ length: 20 }, (_, i) => i * 13);

function ask(over: Partial<AnnounceAsk> = {}): AnnounceAsk {
  return {
    infoHash: HASH,
    peerId: utf8Encode('-SX0100-abcdefghijkl'),
    port: 6881,
    uploaded: 1,
    downloaded: 2,
    left: 3,
    event: 'started',
    numWant: 200,
    key: 0xab,
    trackerId: null,
    supportCrypto: false,
    ...over,
  };
}

const reply = (text: string, status = 200, ip = PUBLIC) =>
  parseAnnounce(
    status,
    Uint8Array.from(text, (c) => c.charCodeAt(0)),
    ip,
  );
const dict = (fields: Parameters<typeof encode>[0], ip = PUBLIC) => parseAnnounce(200, encode(fields), ip);

describe('announce URL', () => {
  it('encodes every byte exactly and keeps the query of the tracker', () => {
    const url = announceUrl('http://t.example/announce?passkey=a%20b', ask());
    expect(url).toBe(
      'http://t.example/announce?passkey=a%20b&info_hash=%00%0D%1A%274AN%5Bhu%82%8F%9C%A9%B6%C3%D0%DD%EA%F7' +
        '&peer_id=-SX0100-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3&compact=1&no_peer_id=1&numwant=200' +
        '&key=000000AB&event=started',
    );
  });

  it('round-trips any bytes through a query parser', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const encoded = percentEncode(bytes);
        expect(encoded).toMatch(/^(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})*$/);
        const back = encoded.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
        expect(Uint8Array.from(back, (c) => c.charCodeAt(0))).toEqual(bytes);
      }),
    );
  });

  it('handles odd tracker URLs: no path, an open query, a fragment', () => {
    expect(announceUrl('http://t.example', ask())).toMatch(/^http:\/\/t\.example\?info_hash=/);
    expect(announceUrl('http://t.example/a?', ask())).toMatch(/\/a\?info_hash=/);
    expect(announceUrl('http://t.example/a?x=1&', ask())).toMatch(/\?x=1&info_hash=/);
    expect(announceUrl('http://t.example/a#frag', ask())).not.toContain('frag');
  });

  it('sends numbers that are numbers, the tracker id, and a left that does not claim a seed', () => {
    const url = announceUrl(
      'http://t/a',
      ask({ uploaded: 2 ** 60, downloaded: -5, left: -1, trackerId: HASH, event: '' }),
    );
    expect(url).toContain('&uploaded=9007199254740991&downloaded=0&left=16384&');
    expect(url).toContain(`&trackerid=${percentEncode(HASH)}`);
    expect(url).not.toContain('event');
  });
});

describe('scrape URL', () => {
  it.each([
    ['http://e.com/announce', 'http://e.com/scrape?info_hash=%41'],
    ['http://e.com/x/announce', 'http://e.com/x/scrape?info_hash=%41'],
    ['http://e.com/announce.php', 'http://e.com/scrape.php?info_hash=%41'],
    ['http://e.com/announce?x=2%0644', 'http://e.com/scrape?x=2%0644&info_hash=%41'],
    ['http://e.com/a', null],
    ['http://e.com/announce?x=2/4', 'http://e.com/scrape?x=2/4&info_hash=%41'],
    ['http://e.com/x%064announce', null],
    ['http://announce', null],
  ])('%s', (tracker, expected) => {
    expect(scrapeUrl(tracker, [Uint8Array.of(0x41)])).toBe(expected === null ? null : expected.replace('%41', 'A'));
  });
});

describe('tracker URLs', () => {
  it.each([
    ['http://t/announce', 'http'],
    ['HTTPS://t/announce', 'http'],
    ['udp://t:80', 'udp'],
    ['wss://t', 'websocket'],
    ['', null],
    ['http://', null],
    ['http:///x', null],
    ['ftp://t/x', null],
    ['file:///etc/passwd', null],
    ['javascript:alert(1)', null],
    ['http://t/\r\nX-Evil: 1', null],
    ['http://t/a b', null],
    [`http://t/${'a'.repeat(3000)}`, null],
    ['http://a/announce?k=1&Info_Hash=aaaa', null],
  ])('%#', (url, protocol) => expect(trackerProtocol(url)).toBe(protocol));
});

describe('announce reply', () => {
  it('reads compact peers of both families', () => {
    const six = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1];
    const r = dict({
      interval: 1800,
      'min interval': 900,
      complete: 3,
      incomplete: 4,
      peers: Uint8Array.of(1, 2, 3, 4, 0x1a, 0xe1, 5, 6, 7, 8, 0, 1),
      peers6: Uint8Array.from(six),
      'tracker id': 'tid',
      'external ip': Uint8Array.of(9, 8, 7, 6),
      'warning message': 'mind the gap',
    });
    expect(r).toMatchObject({ failure: null, intervalMs: 1_800_000, minIntervalMs: 900_000, seeders: 3, leechers: 4 });
    expect([...r.peers4]).toEqual([1, 2, 3, 4, 0x1a, 0xe1, 5, 6, 7, 8, 0, 1]);
    expect([...r.peers6]).toEqual(six);
    expect(r.trackerId).toEqual(utf8Encode('tid'));
    expect(r.externalIp).toEqual(Uint8Array.of(9, 8, 7, 6));
    expect(r.warning).toBe('mind the gap');
  });

  it('reads peers as dictionaries, though compact was asked: v4, v6, v6-mapped v4, names', () => {
    const r = dict({
      peers: [
        { ip: '1.2.3.4', port: 80, 'peer id': HASH },
        { ip: '::ffff:5.6.7.8', port: 81 },
        { ip: '2001:db8::1', port: 82 },
        { ip: 'peer.example', port: 83 },
        { ip: 'localhost', port: 84 },
        { ip: '0x7f.1', port: 84 },
        { ip: '2130706433', port: 84 },
        { ip: '1.2.3.4', port: 0 },
        { ip: '1.2.3.4', port: 65536 },
        { ip: '1.2.3.4' },
        { port: 1 },
        'junk',
        7,
      ],
    });
    expect([...r.peers4]).toEqual([1, 2, 3, 4, 0, 80, 5, 6, 7, 8, 0, 81]);
    expect(r.peers6.length).toBe(18);
    expect(r.named).toEqual([{ host: 'peer.example', port: 83 }]);
  });

  it('drops addresses nobody lives at, and loopback unless the tracker is near', () => {
    const peers = [
      0, 0, 0, 0, 1, 1, 224, 0, 0, 1, 1, 1, 255, 255, 255, 255, 1, 1, 1, 1, 1, 1, 0, 0, 127, 0, 0, 1, 1, 1,
    ];
    expect(dict({ peers: Uint8Array.from(peers) }).peers4.length).toBe(0);
    expect([...dict({ peers: Uint8Array.from(peers) }, '127.0.0.1').peers4]).toEqual([127, 0, 0, 1, 1, 1]);
    const mapped = new Uint8Array(18);
    mapped.set([255, 255, 9, 9, 9, 9, 0, 5], 10);
    const r = dict({ peers6: mapped });
    expect([...r.peers4]).toEqual([9, 9, 9, 9, 0, 5]);
    expect(r.peers6.length).toBe(0);
  });

  it('refuses packed peers of a broken length', () => {
    expect(dict({ peers: new Uint8Array(7) }).failure).toContain('multiple of 6');
    expect(dict({ peers6: new Uint8Array(6) }).failure).toContain('multiple of 18');
  });

  it('caps a million peers', () => {
    const r = dict({ peers: new Uint8Array(6_000_000).fill(7) });
    expect(r.failure).toBeNull();
    expect(r.peers4.length).toBe(6 * MAX_PEERS);
    const named = dict({ peers: Array.from({ length: 2000 }, (_, i) => ({ ip: `p${i}.example`, port: 1 })) });
    expect(named.named.length).toBe(20);
  });

  it.each([
    ['-1', 60_000],
    ['0', 60_000],
    ['59', 60_000],
    ['61', 61_000],
    ['86401', 86_400_000],
    ['100000000000', 86_400_000],
    ['9223372036854775807', 86_400_000],
    ['-9223372036854775808', 60_000],
  ])('clamps an interval of %s', (seconds, ms) => {
    expect(reply(`d8:intervali${seconds}ee`).intervalMs).toBe(ms);
    expect(reply(`d8:intervali70e12:min intervali${seconds}ee`).minIntervalMs).toBe(ms);
    expect(reply(`d8:intervali70e12:min intervali${seconds}ee`).intervalMs).toBe(Math.max(70_000, ms));
  });

  it('takes the usual interval where none or none of sense is given', () => {
    expect(reply('de').intervalMs).toBe(1_800_000);
    expect(reply('d8:interval4:soone').intervalMs).toBe(1_800_000);
  });

  it.each([
    ['i9e', 540_000],
    ['1:9', 540_000],
    ['5:never', Number.POSITIVE_INFINITY],
    ['i-3e', 60_000],
    ['i100000000000e', 86_400_000],
    ['4:junk', null],
    ['le', null],
  ])('retry in %s', (value, ms) => {
    expect(reply(`d14:failure reason4:busy8:retry in${value}e`)).toMatchObject({ failure: 'busy', retryInMs: ms });
  });

  it('shows a refusal with any status, and a status without one', () => {
    expect(reply('d14:failure reason4:nonee', 403).failure).toBe('none');
    expect(reply('d8:intervali1800ee', 500).failure).toBe('the tracker answered with HTTP status 500');
    expect(reply('<html>', 404).failure).toContain('404');
    expect(reply('<html>').failure).toBe('the answer is not a bencoded dictionary');
    expect(reply('d14:failure reason0:e').failure).toContain('refused');
  });

  it('lets pass what follows the dictionary', () => expect(reply('d8:intervali90ee\r\n').intervalMs).toBe(90_000));

  it('takes the escape out of a message', () => {
    expect(reply('d14:failure reason11:a\u001b[31mb\r\ncde').failure).toBe('a [31mb cd');
    expect(dict({ 'failure reason': `x\u202ey${'z'.repeat(5000)}` }).failure).toMatch(/^xyz{200,}…$/);
  });
});

describe('scrape reply', () => {
  it('finds the torrent by its raw hash', () => {
    const files = new Map([[HASH, { complete: 5, incomplete: 2, downloaded: 9, downloaders: 1 }]]);
    const r = parseScrape(200, encode({ files, flags: { min_request_interval: 3600 } }), HASH);
    expect(r).toEqual({
      failure: null,
      seeders: 5,
      leechers: 2,
      completed: 9,
      downloaders: 1,
      minIntervalMs: 3_600_000,
    });
    expect(parseScrape(200, encode({ files }), new Uint8Array(20)).failure).toContain('does not know');
    expect(parseScrape(200, encode({ 'failure reason': 'no' }), HASH).failure).toBe('no');
    expect(parseScrape(502, new Uint8Array(0), HASH).failure).toContain('502');
  });
});

describe('hostile replies', () => {
  const sane = (bytes: Uint8Array): void => {
    const r = parseAnnounce(200, bytes, PUBLIC);
    expect(r.intervalMs).toBeGreaterThanOrEqual(60_000);
    expect(r.intervalMs).toBeLessThanOrEqual(86_400_000);
    expect(r.minIntervalMs).toBeLessThanOrEqual(r.intervalMs);
    expect(r.peers4.length % 6).toBe(0);
    expect(r.peers6.length % 18).toBe(0);
    expect(r.peers4.length / 6 + r.peers6.length / 18 + r.named.length).toBeLessThanOrEqual(MAX_PEERS);
    parseScrape(200, bytes, HASH);
  };

  it('never throw: random bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), sane), { numRuns: 500 });
  });

  it('never throw: any type in any field', () => {
    const leaf = fc.oneof(
      fc.integer(),
      fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
      fc.uint8Array({ maxLength: 40 }),
      fc.string(),
    );
    const value = fc.oneof(leaf, fc.array(leaf), fc.dictionary(fc.constantFrom('ip', 'port', 'x'), leaf));
    const keys = ['peers', 'peers6', 'interval', 'min interval', 'tracker id', 'external ip', 'complete', 'incomplete'];
    const more = ['failure reason', 'retry in', 'warning message', 'files', 'flags', '__proto__'];
    const field = fc.tuple(fc.constantFrom(...keys, ...more), fc.oneof(value, fc.array(value)));
    fc.assert(
      fc.property(fc.array(field, { maxLength: 8 }), (fields) => sane(encode(new Map(fields)))),
      { numRuns: 500 },
    );
  });

  it('never throw: good replies with bytes changed', () => {
    const good = encode({
      interval: 1800,
      peers: [{ ip: '1.2.3.4', port: 80 }],
      peers6: new Uint8Array(18).fill(3),
      'external ip': HASH.slice(0, 4),
      files: new Map([[HASH, { complete: 5 }]]),
    });
    const edit = fc.tuple(fc.nat(good.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 4 }), fc.nat(good.length), (edits, cut) => {
        const bytes = good.slice();
        for (const [at, to] of edits) bytes[at] = to;
        sane(bytes);
        sane(bytes.subarray(0, cut));
        sane(concat([bytes, bytes]));
      }),
      { numRuns: 1000 },
    );
  });

  it('stay cheap: a megabyte of open lists', () => {
    expect(parseAnnounce(200, new Uint8Array(1 << 20).fill(0x6c), PUBLIC).failure).not.toBeNull();
    expect(reply(`d5:peersl${'le'.repeat(500_000)}ee`).failure).not.toBeNull();
  });
});
