import fc from 'fast-check';
import { beforeEach, expect, test } from 'vitest';
import { fromHex, latin1, utf8Encode } from '../base/bytes.ts';
import { Rng } from '../base/random.ts';
import { formatLsd, Lsd, parseLsd } from './lsd.ts';

interface Sent {
  readonly at: number;
  readonly hexes: readonly string[];
}

class Driver {
  readonly lsd: Lsd;
  now = 1_000_000;
  /** Of IPv4; IPv6 is checked to say the same. */
  readonly sent: Sent[] = [];
  readonly heard: string[] = [];
  #four: Uint8Array = new Uint8Array(0);

  constructor(seed = 1) {
    this.lsd = new Lsd({ rng: new Rng(Uint32Array.of(2, seed, 3, 4)), sink: this });
  }
  onLsdSend(bytes: Uint8Array, family: 4 | 6): void {
    expect(bytes.length).toBeLessThanOrEqual(1400);
    const message = parseLsd(bytes)!;
    expect(message).toMatchObject({ port: this.lsd.port, cookie: this.lsd.cookie });
    expect(latin1(bytes)).toContain(
      family === 4 ? 'Host: 239.192.152.143:6771\r\n' : 'Host: [ff15::efc0:988f]:6771\r\n',
    );
    if (family === 4) {
      this.sent.push({ at: this.now, hexes: message.infoHashes });
      this.#four = bytes;
    } else {
      expect(message).toEqual(parseLsd(this.#four));
    }
  }
  onLsdPeer(infoHash: Uint8Array, ip: string, port: number): void {
    this.heard.push(`${latin1(infoHash).charCodeAt(0)} ${ip} ${port}`);
  }
  /** Lets time pass, deadline by deadline. */
  run(ms: number): void {
    const end = this.now + ms;
    for (let steps = 0; ; steps++) {
      expect(steps).toBeLessThan(10_000);
      const at = Math.max(this.now, this.lsd.nextAt());
      if (at > end) break;
      this.now = at;
      this.lsd.tick(at);
    }
    this.now = end;
  }
  add(number: number): void {
    this.lsd.add(this.now, hashOf(number));
  }
  /** Seconds since `from` at which a torrent was named. */
  times(number: number, from: number): number[] {
    return this.sent.filter(({ hexes }) => hexes.includes(hexOf(number))).map(({ at }) => (at - from) / 1000);
  }
}

function hashOf(number: number): Uint8Array {
  return fromHex(hexOf(number))!;
}

function hexOf(number: number): string {
  return (number & 0xff).toString(16).padStart(2, '0') + number.toString(16).padStart(38, '0');
}

let driver = new Driver();
beforeEach(() => {
  driver = new Driver();
});

test('the message of BEP 14, byte by byte', () => {
  const bytes = formatLsd(4, 6881, [hexOf(1), hexOf(2)], 'name');
  expect(latin1(bytes)).toBe(
    `BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: ${hexOf(1)}\r\nInfohash: ${hexOf(2)}\r\ncookie: name\r\n\r\n\r\n`,
  );
  expect(parseLsd(bytes)).toEqual({ port: 6881, infoHashes: [hexOf(1), hexOf(2)], cookie: 'name' });
});

test('messages as other clients write them', () => {
  const read = (text: string): unknown => parseLsd(utf8Encode(text));
  const hex = 'ABCDEF0123456789abcdef0123456789ABCDEF01';
  const found = { port: 51413, infoHashes: [hex.toLowerCase()], cookie: null };
  expect(
    read(`BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 51413\r\nInfohash: ${hex}\r\n\r\n\r\n`),
  ).toEqual(found);
  expect(read(`BT-SEARCH * HTTP/1.1\nport:51413\ninfohash:${hex}`)).toEqual(found);
  expect(
    read(`bt-search  *  http/1.0\r\nINFOHASH :  ${hex}  \r\nX: y\r\nno colon\r\nPort: 51413\r\n\r\nPort: 1\r\n`),
  ).toEqual(found);
  for (const bad of [
    '',
    `GET / HTTP/1.1\r\nPort: 51413\r\nInfohash: ${hex}\r\n\r\n`,
    `BT-SEARCH * HTTP/1.1\r\nInfohash: ${hex}\r\n\r\n`,
    'BT-SEARCH * HTTP/1.1\r\nPort: 51413\r\n\r\n',
    `BT-SEARCH * HTTP/1.1\r\nPort: 51413\r\nInfohash: ${hex.slice(1)}\r\n\r\n`,
    `BT-SEARCH * HTTP/1.1\r\nPort: 51413\r\nInfohash: ${hex.slice(1)}g\r\n\r\n`,
    ...['0', '65536', '-1', '1e3', '0x50', '', '99999999999999999999'].map(
      (port) => `BT-SEARCH * HTTP/1.1\r\nPort: ${port}\r\nInfohash: ${hex}\r\n\r\n`,
    ),
  ]) {
    expect(read(bad), bad).toBe(null);
  }
});

test('a new torrent is announced at once, twice more, then every five minutes', () => {
  const start = driver.now;
  driver.add(1);
  expect(driver.lsd.nextAt()).toBe(Infinity);
  driver.lsd.port = 6881;
  driver.run(1_000_000);
  expect(driver.times(1, start)).toEqual([0, 2, 6, 306, 606, 906]);
  driver.lsd.remove(hashOf(1));
  expect(driver.lsd.nextAt()).toBe(Infinity);
  driver.lsd.add(driver.now, hashOf(1));
  driver.lsd.add(driver.now, hashOf(1));
  expect(driver.lsd.count).toBe(1);
  driver.run(0);
  expect(driver.sent.at(-1)).toEqual({ at: driver.now, hexes: [hexOf(1)] });
});

test('many torrents share packets, a minute apart, and each has its turn', () => {
  driver.lsd.port = 6881;
  for (let i = 0; i < 300; i++) driver.add(i);
  driver.run(3_600_000);
  const late = driver.sent.filter(({ at }) => at > driver.now - 1_800_000);
  for (const [i, { at }] of late.entries()) if (i > 0) expect(at - late[i - 1]!.at).toBeGreaterThanOrEqual(60_000);
  expect(driver.sent.length).toBeLessThanOrEqual(60 + 6);
  for (let i = 0; i < 300; i++) {
    // 24 in 75 s: 16 minutes for all
    const times = [...driver.times(i, 0).filter((t) => t > 1000 + 900), driver.now / 1000];
    for (const [k, t] of times.entries()) if (k > 0) expect(t - times[k - 1]!).toBeLessThanOrEqual(17 * 60);
    expect(times.length).toBeGreaterThan(2);
  }
  // a new one does not wait for the minute, nor for the others
  driver.run(driver.lsd.nextAt() - driver.now + 5000);
  const from = driver.now;
  driver.add(999);
  driver.run(7000);
  expect(driver.times(999, from)).toEqual([0, 2, 6]);
});

test('at most one packet a minute over time, whatever is added', () => {
  driver.lsd.port = 6881;
  for (let i = 0; i < 400; i++) {
    driver.add(i);
    driver.run(5000);
  }
  expect(driver.sent.length).toBeLessThanOrEqual((400 * 5) / 60 + 7);
  for (const [i, { at }] of driver.sent.entries())
    if (i > 0) expect(at - driver.sent[i - 1]!.at).toBeGreaterThanOrEqual(2000);
  // the last of them was named within a minute of its coming
  driver.run(60_000);
  expect(driver.times(399, 0).length).toBeGreaterThan(0);
});

test('a new interface hears of all torrents soon', () => {
  driver.lsd.port = 6881;
  for (let i = 0; i < 10; i++) driver.add(i);
  driver.run(100_000);
  driver.lsd.again(driver.now);
  const from = driver.now;
  driver.run(10_000);
  for (let i = 0; i < 10; i++) expect(driver.times(i, from).filter((t) => t >= 0)).toEqual([0]);
});

test('hears of torrents it has, once a message, and not itself', () => {
  driver.add(1);
  driver.add(2);
  const hear = (bytes: Uint8Array): string[] => {
    driver.heard.length = 0;
    driver.lsd.datagram(driver.now, bytes, '10.0.0.9');
    return driver.heard;
  };
  expect(hear(formatLsd(6, 7000, [hexOf(3), hexOf(2), hexOf(2), hexOf(1)], 'other'))).toEqual([
    '2 10.0.0.9 7000',
    '1 10.0.0.9 7000',
  ]);
  expect(hear(formatLsd(4, 7000, [hexOf(3)], 'other'))).toEqual([]);
  expect(hear(formatLsd(4, 7000, [hexOf(1)], driver.lsd.cookie))).toEqual([]);
  expect(hear(formatLsd(4, 7000, [hexOf(1)], new Driver(2).lsd.cookie))).toEqual(['1 10.0.0.9 7000']);
  driver.lsd.remove(hashOf(1));
  expect(hear(formatLsd(4, 7000, [hexOf(1)], 'other'))).toEqual([]);
});

test('floods and hostile bytes cost little and break nothing', () => {
  driver.add(1);
  const good = formatLsd(4, 7000, [hexOf(1)], 'x');
  for (let i = 0; i < 1000; i++) driver.lsd.datagram(driver.now, good, '10.0.0.9');
  expect(driver.heard.length).toBe(100);
  driver.lsd.datagram(driver.now + 1000, good, '10.0.0.9');
  expect(driver.heard.length).toBe(101);
  const head = 'BT-SEARCH * HTTP/1.1\r\n';
  for (const [i, fill] of [
    ' ',
    '\t',
    ':',
    '\n',
    '\r\n',
    'Port: ',
    'Infohash: \r\n',
    `Infohash: ${hexOf(1)}\r\n`,
    'a',
  ].entries()) {
    for (const start of [head, 'BT-SEARCH', 'BT-SEARCH *', `${head}Port:`, `${head}x`]) {
      const text = start + fill.repeat(65_000 / fill.length);
      const before = performance.now();
      parseLsd(utf8Encode(text));
      driver.lsd.datagram(driver.now + 3000 * (i + 2), utf8Encode(text), '10.0.0.9');
      expect(performance.now() - before).toBeLessThan(100);
    }
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.boolean(), (bytes, hasHead) => {
      const all = hasHead ? Uint8Array.of(...utf8Encode(head), ...bytes) : bytes;
      const message = parseLsd(all);
      expect(message === null || (message.port > 0 && message.infoHashes.every((hex) => hex.length === 40))).toBe(true);
    }),
  );
  const piece = fc.constantFrom('\r\n', '\n', ':', ' ', 'Port', 'Infohash', 'cookie', hexOf(1), '6881', '\0', 'é');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => void parseLsd(utf8Encode(head + pieces.join('')))),
  );
});
