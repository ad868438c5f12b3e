import { describe, expect, it } from 'vitest';
import { type Asked, Bench, event, HASH, host, MINUTE } from '../../test/announce-kit.ts';
import { encode } from '../codec/bencode.ts';
import { parseAnnounce, parseScrape } from './tracker-http.ts';
import { MAX_TRACKERS } from './tracker-list.ts';

describe('one tracker', () => {
  it('says started, then nothing special at each interval, with constant key and session totals', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    const first = b.tick();
    expect(event(first)).toBe('started');
    expect(first.url.searchParams.get('numwant')).toBe('200');
    expect(first.timeoutMs).toBe(30_000);
    b.quiet();
    b.ok(first, { 'tracker id': 'abc' });
    b.figures = { uploaded: 5, downloaded: 6, left: 94, partialSeed: false };
    const second = b.later();
    expect(b.now).toBeGreaterThanOrEqual(30 * MINUTE);
    expect(b.now).toBeLessThanOrEqual(32 * MINUTE);
    expect(event(second)).toBeNull();
    const said = second.url.searchParams;
    expect([said.get('uploaded'), said.get('downloaded'), said.get('left')]).toEqual(['5', '6', '94']);
    expect(said.get('trackerid')).toBe('abc');
    expect(said.get('key')).toBe(first.url.searchParams.get('key'));
  });

  it('hands on peers, warnings once, external address; answers to unknown requests are nothing', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    const fields = {
      peers: Uint8Array.of(9, 9, 9, 9, 1, 1),
      peers6: new Uint8Array(18).fill(9),
      'warning message': 'slow down',
      'external ip': Uint8Array.of(4, 3, 2, 1),
    };
    const first = b.tick();
    b.ok(first, fields);
    b.ok(first, fields);
    b.ok(b.later(), fields);
    expect(b.peers).toEqual([
      [1, 1, 0],
      [1, 1, 0],
    ]);
    expect(b.warnings).toEqual(['http://a/announce slow down']);
    expect(b.external[0]).toBe('4.3.2.1 from 127.0.0.1');
    expect(b.announcer.status(b.now)[0]).toMatchObject({ status: 'working', message: 'slow down' });
  });

  it('asks again early on demand, but not before the min interval', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    b.ok(b.tick(), { 'min interval': 600 });
    b.announcer.announceNow(b.now);
    b.quiet();
    expect(b.announcer.nextAt()).toBe(10 * MINUTE);
    b.now = 10 * MINUTE - 1;
    b.quiet();
    expect(event(b.later())).toBeNull();
  });

  it('backs off with growing delay and jitter up to an hour, and says started until it is heard', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const b = new Bench([['http://a/announce']], { seed });
      b.announcer.start(0);
      for (let fails = 1; fails <= 30; fails++) {
        const asked = b.later();
        expect(event(asked)).toBe('started');
        b.fail(asked);
        b.quiet();
        const delay = b.announcer.nextAt() - b.now;
        const rule = Math.min(3_600_000, 5000 + 12_500 * fails * fails);
        expect(delay).toBeGreaterThanOrEqual(rule / 2);
        expect(delay).toBeLessThanOrEqual(rule);
      }
      expect(b.announcer.status(b.now)[0]).toMatchObject({ status: 'failed', message: 'refused' });
    }
  });

  it('obeys "retry in", and "never" until a user asks', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    b.ok(b.tick(), { 'failure reason': 'busy', 'retry in': 7 });
    b.quiet();
    expect(b.announcer.nextAt()).toBe(7 * MINUTE);
    b.ok(b.later(), { 'failure reason': 'gone', 'retry in': 'never' });
    b.quiet();
    expect(b.announcer.nextAt()).toBe(Number.POSITIVE_INFINITY);
    expect(b.announcer.status(b.now)[0]).toMatchObject({ message: 'gone', nextMs: null });
    b.announcer.announceNow(b.now);
    b.ok(b.tick());
    expect(b.announcer.status(b.now)[0]).toMatchObject({ status: 'working', message: null });
  });

  it('garbage, HTTP errors and emptiness are failures with a reason', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    for (const [status, body] of [
      [200, '<html>'],
      [200, ''],
      [503, ''],
      [200, 'd5:peers5:abcdee'],
    ] as const) {
      const asked = b.later();
      const reply = parseAnnounce(status, new TextEncoder().encode(body), '127.0.0.1');
      b.announcer.answered(asked.id, b.now, reply, '127.0.0.1');
      expect(b.announcer.status(b.now)[0]).toMatchObject({ status: 'failed', message: expect.stringMatching(/\w/) });
    }
  });
});

describe('completed', () => {
  it('comes once, at once, only after a start as incomplete', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    b.ok(b.tick(), { 'min interval': 900 });
    b.now = 5;
    b.figures.left = 0;
    b.announcer.completed(b.now);
    const asked = b.tick();
    expect(event(asked)).toBe('completed');
    expect(asked.url.searchParams.get('left')).toBe('0');
    b.ok(asked);
    b.announcer.completed(b.now);
    expect(event(b.later())).toBeNull();
  });

  it('is not said by one that was complete at the start, and by one whose start was not heard', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    b.fail(b.tick());
    b.figures.left = 0;
    b.announcer.completed(b.now);
    const again = b.later();
    expect(event(again)).toBe('started');
    b.ok(again);
    expect(event(b.later())).toBeNull();
  });

  it('is not said when the start under way fails, since the next start tells as much', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    const start = b.tick();
    b.figures.left = 0;
    b.announcer.completed(b.now);
    b.fail(start);
    const again = b.later();
    expect([event(again), again.url.searchParams.get('left')]).toEqual(['started', '0']);
    b.ok(again);
    expect(event(b.later())).toBeNull();
  });

  it('follows a start that is still under way', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    const start = b.tick();
    b.figures.left = 0;
    b.announcer.completed(b.now);
    b.quiet();
    b.ok(start);
    const done = b.tick();
    expect(event(done)).toBe('completed');
    b.fail(done);
    const again = b.later();
    expect(event(again)).toBe('completed');
    b.ok(again);
    expect(event(b.later())).toBeNull();
  });

  it('gives way to paused in a partial seed', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    b.ok(b.tick());
    b.figures = { uploaded: 0, downloaded: 0, left: 50, partialSeed: true };
    expect(event(b.later())).toBe('paused');
  });
});

describe('tiers', () => {
  const tiers = [['http://a1/announce', 'http://a2/announce', 'http://a3/announce'], ['http://b1/announce']];

  it('are shuffled once, each within itself', () => {
    const orders = new Set<string>();
    for (let seed = 1; seed < 60; seed++) {
      const order = new Bench(tiers, { seed }).announcer.tiers();
      expect([...order[0]!].sort()).toEqual(tiers[0]);
      expect(order[1]).toEqual(tiers[1]);
      orders.add(order[0]!.join());
    }
    expect(orders.size).toBe(6);
  });

  it('the next tier is asked only after a whole one failed; who answers moves to the front', () => {
    const b = new Bench(tiers);
    const [x, y, z] = b.announcer.tiers()[0]!;
    b.announcer.start(0);
    const first = b.tick();
    b.fail(first);
    const second = b.tick();
    b.fail(second);
    const third = b.tick();
    expect([first, second, third].map((a) => `http://${host(a)}/announce`)).toEqual([x, y, z]);
    b.ok(third);
    expect(b.announcer.tiers()[0]).toEqual([z, x, y]);
    expect(host(b.later())).toBe(host(third));
  });

  it('a tier in back-off is passed over, and tried first again at the next announce', () => {
    const b = new Bench(tiers);
    b.announcer.start(0);
    for (let i = 0; i < 3; i++) b.fail(b.tick());
    const fourth = b.tick();
    expect(host(fourth)).toBe('b1');
    b.ok(fourth);
    b.quiet();
    expect(b.announcer.nextAt()).toBeGreaterThanOrEqual(30 * MINUTE);
    const back = b.later();
    expect(host(back)).toMatch(/^a/);
    b.ok(back);
    expect(b.switches).toBe(0);
  });

  it('a slow walk through a long tier reaches its end before it begins anew', () => {
    const urls = Array.from({ length: 20 }, (_, i) => `http://t${i}/announce`);
    const b = new Bench([urls]);
    b.announcer.start(0);
    const seen = new Set<string>();
    for (let i = 0; i < 20; i++) {
      const asked = b.tick();
      seen.add(host(asked));
      b.now += 30_000;
      b.fail(asked);
    }
    expect(seen.size).toBe(20);
  });

  it('a tracker in its min interval is waited for, not walked around', () => {
    const b = new Bench([['http://a/announce'], ['http://b/announce']]);
    b.announcer.start(0);
    b.ok(b.tick(), { 'min interval': 300 });
    b.announcer.announceNow(b.now);
    b.quiet();
    expect(host(b.later())).toBe('a');
  });

  it('blank, doubled and foreign URLs are passed over; what cannot be used says so', () => {
    const b = new Bench([
      ['', ' '],
      ['http://a/announce', ' http://a/announce '],
      ['gopher://x'],
      ['wss://w'],
      ['http://[2600::1]/announce'],
    ]);
    expect(b.announcer.tiers().map((tier) => tier.length)).toEqual([1, 1, 1]);
    b.announcer.start(0);
    b.announcer.announceNow(0);
    b.fail(b.tick());
    b.quiet();
    expect(b.announcer.status(0).slice(1)).toMatchObject([
      { status: 'failed', message: 'WebSocket trackers are not supported yet', nextMs: null, families: [] },
      { status: 'failed', message: 'this session has no IPv6', nextMs: null, families: [] },
    ]);
    const none = new Bench([['wss://w']]);
    none.announcer.start(0);
    none.quiet();
    expect(none.announcer.nextAt()).toBe(Number.POSITIVE_INFINITY);
  });

  it('UDP trackers go the same road', () => {
    const b = new Bench([['udp://u:1/announce'], ['http://a/announce']]);
    b.announcer.start(0);
    const first = b.tick();
    expect([first.protocol, host(first), first.timeoutMs]).toEqual(['udp', 'u', 30_000]);
    b.fail(first);
    const second = b.tick();
    expect([second.protocol, host(second)]).toEqual(['http', 'a']);
    b.ok(second);
    b.announcer.stop(b.now);
    expect(b.next().protocol).toBe('http');
  });
});

describe('stopping', () => {
  it('says stopped once to each that answered, wants no peers, and does not repeat it', () => {
    const b = new Bench([['http://a/announce'], ['http://b/announce'], ['http://c/announce']]);
    b.announcer.start(0);
    b.ok(b.tick());
    b.fail(b.later());
    b.ok(b.tick());
    b.announcer.stop(b.now);
    const said = [b.next(), b.next()];
    expect(b.asked).toEqual([]);
    expect(said.map(host).sort()).toEqual(['a', 'b']);
    for (const asked of said) {
      expect(event(asked)).toBe('stopped');
      expect(asked.url.searchParams.get('numwant')).toBe('0');
      expect(asked.timeoutMs).toBe(5000);
      b.fail(asked);
    }
    b.announcer.stop(b.now);
    b.now += 1e9;
    b.quiet();
    expect(b.announcer.nextAt()).toBe(Number.POSITIVE_INFINITY);
    expect(b.announcer.requestCount).toBe(0);
  });

  it('abandons what is under way and says nothing to one that never answered', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    const asked = b.tick();
    b.announcer.stop(0);
    expect(b.abandoned).toEqual([asked.id]);
    expect(b.asked).toEqual([]);
    b.ok(asked, { peers: Uint8Array.of(9, 9, 9, 9, 1, 1) });
    expect(b.peers).toEqual([]);
  });

  it('says stopped to one that may have heard the start that was given up', () => {
    const b = new Bench([['http://a/announce']]);
    b.heard = true;
    b.announcer.start(0);
    b.tick();
    b.announcer.stop(0);
    expect(event(b.next())).toBe('stopped');
  });

  it('one that stops the moment it is complete says completed first, then stopped, however that goes', () => {
    for (const how of ['answered', 'failed'] as const) {
      const b = new Bench([['http://a/announce']]);
      b.announcer.start(0);
      b.ok(b.tick());
      b.figures.left = 0;
      b.announcer.completed(0);
      b.announcer.stop(0);
      const last = b.next();
      expect([event(last), last.url.searchParams.get('numwant'), last.timeoutMs]).toEqual(['completed', '0', 1000]);
      expect(b.asked).toEqual([]);
      if (how === 'answered') b.ok(last, { peers: Uint8Array.of(9, 9, 9, 9, 1, 1) });
      else b.fail(last);
      expect(event(b.next())).toBe('stopped');
      expect(b.peers).toEqual([]);
    }
  });

  it('and not twice: one given up that may have been heard is left at that; one resumed goes on', () => {
    const b = new Bench([['http://a/announce']]);
    b.heard = true;
    b.announcer.start(0);
    b.ok(b.tick());
    b.figures.left = 0;
    b.announcer.completed(0);
    expect(event(b.tick())).toBe('completed');
    b.announcer.stop(0);
    expect(event(b.next())).toBe('stopped');
    const c = new Bench([['http://a/announce']]);
    c.announcer.start(0);
    c.ok(c.tick());
    c.figures.left = 0;
    c.announcer.completed(0);
    c.announcer.stop(0);
    const last = c.next();
    c.announcer.start(0);
    c.ok(last);
    expect(event(c.later())).toBe('started');
  });

  it('a resumed torrent starts anew, after the good-bye has been heard', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    b.ok(b.tick());
    b.announcer.stop(0);
    const bye = b.next();
    b.announcer.start(0);
    b.quiet();
    b.ok(bye);
    const again = b.later();
    expect(event(again)).toBe('started');
    expect(b.now).toBeLessThanOrEqual(1000);
  });
});

describe('editing', () => {
  it('a tracker added to a torrent without a working one is asked at once', () => {
    const b = new Bench([['http://a/announce']]);
    b.announcer.start(0);
    b.fail(b.tick());
    b.quiet();
    expect(b.announcer.addTracker(b.now, 'http://b/announce')).toBe(true);
    expect(b.announcer.addTracker(b.now, ' http://b/announce')).toBe(false);
    expect(b.announcer.addTracker(b.now, 'nonsense')).toBe(false);
    expect(host(b.tick())).toBe('b');
  });

  it('a removed one hears stopped, and the rest takes over, even in the middle of a walk', () => {
    const b = new Bench([['http://a/announce'], ['http://b/announce']]);
    b.announcer.start(0);
    b.ok(b.tick());
    b.announcer.removeTracker(b.now, 'http://a/announce');
    expect(event(b.next())).toBe('stopped');
    const walk = b.tick();
    expect(host(walk)).toBe('b');
    b.announcer.addTracker(b.now, 'http://c/announce');
    b.announcer.removeTracker(b.now, 'http://b/announce');
    expect(b.abandoned).toEqual([walk.id]);
    expect(host(b.tick())).toBe('c');
    expect(b.announcer.removeTracker(b.now, 'http://b/announce')).toBe(false);
  });

  it('ten thousand trackers of a magnet cost little', () => {
    const many = Array.from({ length: 10_000 }, (_, i) => [`http://t${i}/announce`]);
    const b = new Bench(many);
    expect(b.announcer.trackerCount).toBe(MAX_TRACKERS);
    expect(b.announcer.addTracker(0, 'http://more/announce')).toBe(false);
  });
});

describe('scrape', () => {
  it('asks the working tracker for counts, not more often than it allows', () => {
    const b = new Bench([['http://a/announce?k=1']]);
    b.announcer.start(0);
    b.ok(b.tick());
    expect(b.announcer.scrape(0)).toBe(true);
    const asked = b.next();
    expect(asked.url.href).toMatch(/^http:\/\/a\/scrape\?k=1&info_hash=%01/);
    const files = new Map([[new Uint8Array(20).fill(1), { complete: 8, incomplete: 9, downloaded: 3 }]]);
    const reply = parseScrape(200, encode({ files, flags: { min_request_interval: 120 } }), HASH);
    b.announcer.scraped(asked.id, 10, reply);
    expect(b.announcer.status(10)[0]).toMatchObject({ status: 'working', seeders: 8, leechers: 9, downloads: 3 });
    expect(b.announcer.scrape(119_000)).toBe(false);
    expect(b.announcer.scrape(120_010)).toBe(true);
    expect(new Bench([['http://a/x']]).announcer.scrape(0)).toBe(false);
  });
});

describe('many torrents', () => {
  it('1,000 on one dead tracker keep to the cap of the session, come apart, and calm down', () => {
    const all = Array.from({ length: 1000 }, (_, i) => new Bench([['http://dead/announce']], { seed: i + 1 }));
    for (const b of all) b.announcer.start(0);
    const perSecond = new Array<number>(600).fill(0);
    const inFlight: { readonly bench: Bench; readonly asked: Asked; readonly endsAt: number }[] = [];
    for (let now = 0; now < 600_000; now += 100) {
      while (inFlight.length > 0 && inFlight[0]!.endsAt <= now) {
        const { bench, asked } = inFlight.shift()!;
        bench.now = now;
        bench.fail(asked);
      }
      for (const b of all) {
        if (inFlight.length >= 50) break;
        if (b.announcer.nextAt() > now) continue;
        b.now = now;
        b.announcer.tick(now);
        const asked = b.asked.shift();
        if (asked === undefined) continue;
        perSecond[Math.floor(now / 1000)]! += 1;
        // refused after a round trip of 200 ms
        inFlight.push({ bench: b, asked, endsAt: now + 200 });
      }
      expect(inFlight.length).toBeLessThanOrEqual(50);
    }
    const tail = perSecond.slice(300);
    expect(tail.reduce((a, n) => a + n, 0)).toBeLessThan(2500);
    expect(Math.max(...tail)).toBeLessThan(40);
    for (const b of all) expect(b.announcer.status(600_000)[0]!.status).toMatch(/failed|announcing/);
  });

  it('started together they announce within the spread that was asked for, and drift apart', () => {
    const starts: number[] = [];
    const seconds: number[] = [];
    for (let i = 0; i < 200; i++) {
      const b = new Bench([['http://a/announce']], { seed: i + 1 });
      b.announcer.start(0, 10_000);
      b.ok(b.later());
      starts.push(b.now);
      seconds.push(b.announcer.nextAt() - b.now);
    }
    expect(Math.max(...starts)).toBeLessThan(10_000);
    expect(Math.max(...starts) - Math.min(...starts)).toBeGreaterThan(8000);
    expect(Math.max(...seconds) - Math.min(...seconds)).toBeGreaterThan(60_000);
    expect(Math.min(...seconds)).toBeGreaterThanOrEqual(30 * MINUTE);
  });
});
