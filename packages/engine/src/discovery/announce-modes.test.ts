import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Asked, Bench, event, host, MINUTE } from '../../test/announce-kit.ts';
import { quickestMs } from '../../test/quickest.ts';
import type { AnnounceMode } from './announce.ts';
import { type Family, NO_FAMILY } from './tracker.ts';

describe('editing in place', () => {
  it('another in the place of one is asked at once; the old one hears stopped', () => {
    const b = new Bench([['http://a/announce'], ['http://b/announce']]);
    b.announcer.start(0);
    b.ok(b.tick());
    expect(b.announcer.replaceTracker(0, 'http://a/announce', 'http://b/announce')).toBe(false);
    expect(b.announcer.replaceTracker(0, 'http://x/announce', 'http://c/announce')).toBe(false);
    expect(b.announcer.replaceTracker(0, 'http://a/announce', 'nonsense')).toBe(false);
    b.quiet();
    expect(b.announcer.replaceTracker(0, ' http://a/announce', 'http://c/announce ')).toBe(true);
    expect(b.announcer.tiers()).toEqual([['http://c/announce'], ['http://b/announce']]);
    const bye = b.next();
    expect([host(bye), event(bye)]).toEqual(['a', 'stopped']);
    const hello = b.tick();
    expect([host(hello), event(hello)]).toEqual(['c', 'started']);
  });

  it('a whole new list keeps what stays as it is, and parts with the rest', () => {
    for (const mode of ['tier', 'all-tiers', 'all'] as const) {
      const b = new Bench([['http://a/announce'], ['http://b/announce']], { mode });
      b.announcer.start(0);
      b.ok(b.tick());
      if (mode !== 'tier') b.ok(b.tick());
      const nextOf = (url: string) => b.announcer.status(0).find((tracker) => tracker.url === url)?.nextMs;
      const before = nextOf('http://a/announce');
      expect(before).toBeGreaterThanOrEqual(30 * MINUTE);
      b.announcer.setTrackers(0, [['http://c/announce', 'bad', 'http://a/announce', 'http://c/announce'], [], ['']]);
      expect(b.announcer.tiers()).toEqual([['http://c/announce', 'http://a/announce']]);
      const said = b.asked.splice(0).map((asked) => [host(asked), event(asked)]);
      expect(said).toEqual(mode === 'tier' ? [] : [['b', 'stopped']]);
      if (mode === 'all') expect(host(b.tick())).toBe('c');
      b.quiet();
      expect(nextOf('http://a/announce')).toBe(before);
      expect(b.announcer.status(0)[1]).toMatchObject({ url: 'http://a/announce', status: 'working' });
      b.announcer.setTrackers(0, []);
      b.announcer.tick(0);
      expect(b.announcer.nextAt()).toBe(Number.POSITIVE_INFINITY);
    }
  });

  it('whatever is done in whatever order, no walk asks two at once and nothing is asked after its removal', () => {
    const urls = ['http://a/announce', 'udp://b:1', 'http://c/announce', 'http://d/announce', 'wss://e'];
    fc.assert(
      fc.property(
        fc.record({
          mode: fc.constantFrom('tier', 'all-tiers', 'all' as const),
          exclusive: fc.boolean(),
          families: fc.constantFrom<Family[]>([4], [6], [4, 6]),
          steps: fc.array(fc.tuple(fc.nat({ max: 13 }), fc.nat({ max: 4 }), fc.nat({ max: 4 })), { maxLength: 60 }),
        }),
        ({ mode, exclusive, families, steps }) => {
          const b = new Bench([urls.slice(0, 2), [urls[2]!]], { mode: mode as AnnounceMode, exclusive, families });
          b.heard = true;
          const open: Asked[] = [];
          b.announcer.start(0);
          for (const [what, i, j] of steps) {
            b.now += 1 + 20_000 * i;
            const one = open.length > 0 ? open.splice(j % open.length, 1)[0]! : null;
            if (what < 4 && one !== null) b.ok(one);
            else if (what < 6 && one !== null) b.fail(one, j === 0 ? NO_FAMILY : 'EFAIL');
            else if (one !== null) open.push(one);
            if (what === 6) b.announcer.addTracker(b.now, urls[i]!, j);
            if (what === 7) b.announcer.removeTracker(b.now, urls[i]!);
            if (what === 8) b.announcer.replaceTracker(b.now, urls[i]!, urls[j]!);
            if (what === 9) b.announcer.setTrackers(b.now, [[urls[i]!], [urls[j]!]]);
            if (what === 10) b.announcer.stop(b.now);
            if (what === 11) b.announcer.start(b.now);
            if (what === 12) b.announcer.announceNow(b.now);
            if (what === 13) b.announcer.completed(b.now);
            for (let n = 0; n < 20 && b.announcer.nextAt() <= b.now; n++) b.announcer.tick(b.now);
            expect(b.announcer.nextAt()).toBeGreaterThan(b.now);
            open.push(...b.asked.splice(0));
            for (const id of b.abandoned.splice(0)) {
              const at = open.findIndex((asked) => asked.id === id);
              if (at >= 0) open.splice(at, 1);
            }
            expect(b.announcer.requestCount).toBe(open.length);
            const walking = open.filter((asked) => event(asked) !== 'stopped');
            const known = new Set(
              b.announcer
                .tiers()
                .flat()
                .map((url) => new URL(url).hostname),
            );
            for (const asked of walking) expect(known).toContain(host(asked));
            for (const family of families) {
              const lines = walking.filter((asked) => asked.family === family);
              const most = mode === 'tier' || exclusive ? 1 : mode === 'all' ? known.size : b.announcer.tiers().length;
              expect(lines.length).toBeLessThanOrEqual(most);
            }
          }
        },
      ),
    );
  });
});

describe('two families', () => {
  const both = { families: [4, 6] as const };

  it('each is asked of the same tracker, and either makes it work', () => {
    const b = new Bench([['http://a/announce'], ['http://b/announce']], both);
    b.announcer.start(0);
    const four = b.tick();
    const six = b.tick();
    expect([four, six].map((asked) => [host(asked), asked.family, event(asked)])).toEqual([
      ['a', 4, 'started'],
      ['a', 6, 'started'],
    ]);
    expect(six.url.searchParams.get('key')).toBe(four.url.searchParams.get('key'));
    b.quiet();
    b.ok(four, { peers: Uint8Array.of(9, 9, 9, 9, 1, 1) });
    expect(b.announcer.status(0)[0]).toMatchObject({ status: 'working', peers: 1, fails: 0 });
    b.now = 50;
    b.fail(six);
    const status = b.announcer.status(100)[0]!;
    expect(status).toMatchObject({ status: 'working', message: null, fails: 0, lastMs: 50 });
    expect(status.families).toMatchObject([
      { family: 4, status: 'working', peers: 1, lastMs: 100 },
      { family: 6, status: 'failed', message: 'refused', fails: 1, lastMs: 50 },
    ]);
    // the other family goes on to a tracker that may have it
    const next = b.tick();
    expect([host(next), next.family]).toEqual(['b', 6]);
    b.ok(next, { peers6: new Uint8Array(18).fill(9) });
    b.quiet();
    expect(b.peers).toEqual([
      [1, 0, 0],
      [0, 1, 0],
    ]);
    expect(b.announcer.tiers()).toEqual([['http://a/announce'], ['http://b/announce']]);
    b.announcer.stop(b.now);
    expect(b.asked.map((asked) => [host(asked), asked.family])).toEqual([
      ['a', 4],
      ['b', 6],
    ]);
  });

  it('one without an address of a family is not to blame for it', () => {
    const b = new Bench([['http://a/announce']], both);
    b.announcer.start(0);
    const four = b.tick();
    b.fail(b.tick(), NO_FAMILY);
    expect(b.announcer.status(0)[0]).toMatchObject({ status: 'announcing' });
    b.fail(four, 'ECONNREFUSED');
    expect(b.announcer.status(0)[0]).toMatchObject({ status: 'failed', fails: 1 });
    expect(b.announcer.status(0)[0]!.families[1]).toMatchObject({ family: 6, status: 'failed' });
  });

  it('nor does it hide what the other family is about', () => {
    for (const [code, status] of [
      [NO_FAMILY, 'idle'],
      ['ECONNREFUSED', 'failed'],
    ] as const) {
      const b = new Bench([['http://a/announce']], { families: [6, 4] });
      b.announcer.start(0);
      b.fail(b.tick(), code);
      expect(b.announcer.status(0)[0]).toMatchObject({ status });
    }
  });

  it('two that find different trackers of a tier do not shift them for ever', () => {
    const b = new Bench([['http://a/announce', 'http://b/announce']], both);
    const [first, second] = b.announcer.tiers()[0]!;
    b.announcer.start(0);
    b.ok(b.tick());
    b.fail(b.tick());
    const six = b.tick();
    expect(`http://${host(six)}/announce`).toBe(second);
    b.ok(six);
    expect(b.announcer.tiers()).toEqual([[first, second]]);
  });

  it('an address in place of a name has one', () => {
    const b = new Bench([['http://1.2.3.4/announce'], ['udp://[2600::1]:5']], both);
    b.announcer.start(0);
    const asked = [b.tick(), b.tick()];
    expect(asked.map((one) => [one.family, one.protocol])).toEqual([
      [4, 'http'],
      [6, 'udp'],
    ]);
    b.quiet();
  });

  it('completed and stopped are told over each family that knows us', () => {
    const b = new Bench([['http://a/announce']], both);
    b.heard = true;
    b.announcer.start(0);
    b.ok(b.tick());
    b.ok(b.tick());
    b.figures.left = 0;
    b.announcer.completed(0);
    const done = [b.tick(), b.tick()];
    expect(done.map((asked) => [event(asked), asked.family])).toEqual([
      ['completed', 4],
      ['completed', 6],
    ]);
    b.ok(done[0]!);
    b.announcer.stop(0);
    expect(b.abandoned).toEqual([done[1]!.id]);
    expect(b.asked.map((asked) => [event(asked), asked.family])).toEqual([
      ['stopped', 4],
      ['stopped', 6],
    ]);
  });
});

describe('modes', () => {
  const tiers = [
    ['http://a1/announce', 'http://a2/announce'],
    ['http://b1/announce', 'http://b2/announce'],
  ];

  it('all-tiers: the first that answers of each tier', () => {
    const b = new Bench(tiers, { mode: 'all-tiers' });
    b.announcer.start(0);
    const [a, x] = [b.tick(), b.tick()];
    expect([host(a)[0], host(x)[0]]).toEqual(['a', 'b']);
    b.quiet();
    b.ok(a);
    b.fail(x);
    const other = b.tick();
    expect(host(other)[0]).toBe('b');
    expect(host(other)).not.toBe(host(x));
    b.ok(other);
    b.quiet();
    expect(b.announcer.tiers()[1]![0]).toBe(`http://${host(other)}/announce`);
    expect(b.announcer.status(0).map(({ status }) => status)).toEqual(['working', 'idle', 'working', 'failed']);
    expect(b.announcer.nextAt()).toBeGreaterThanOrEqual(30 * MINUTE);
    b.announcer.stop(0);
    expect(b.asked.map(host).sort()).toEqual([host(a), host(other)].sort());
  });

  it('all: every tracker for itself', () => {
    const b = new Bench(tiers, { mode: 'all' });
    b.announcer.start(0);
    const asked = [b.tick(), b.tick(), b.tick(), b.tick()];
    expect(asked.map(host).sort()).toEqual(['a1', 'a2', 'b1', 'b2']);
    b.fail(asked[0]!);
    b.quiet();
    for (const one of asked.slice(1)) b.ok(one);
    b.quiet();
    expect(b.announcer.scrape(0)).toBe(true);
    expect(b.asked.splice(0).map(({ url }) => url.pathname)).toEqual(['/scrape', '/scrape', '/scrape']);
    const again = b.later();
    expect(host(again)).toBe(host(asked[0]!));
    expect(b.now).toBeLessThan(MINUTE);
  });

  it('another mode begins anew, after a good-bye to those who knew us', () => {
    const b = new Bench(tiers, { mode: 'all' });
    b.announcer.start(0);
    for (let i = 0; i < 3; i++) b.ok(b.tick());
    const under = b.tick();
    b.announcer.setMode(0, 'tier', true);
    expect(b.abandoned).toEqual([under.id]);
    const byes = b.asked.splice(0);
    expect(byes.map(event)).toEqual(['stopped', 'stopped', 'stopped']);
    for (const bye of byes) b.ok(bye);
    const first = b.later();
    b.ok(first);
    b.quiet();
    expect(b.announcer.status(b.now).filter(({ status }) => status === 'working')).toHaveLength(1);
  });
});

describe('exclusive torrents (BEP 27)', () => {
  const tiers = [['http://a/announce'], ['http://b/announce'], ['http://c/announce']];

  it('another tracker that answers is told of', () => {
    const b = new Bench(tiers, { exclusive: true });
    b.announcer.start(0);
    b.ok(b.tick());
    b.fail(b.later());
    b.ok(b.later());
    expect(b.switches).toBe(1);
    const bye = b.next();
    expect([host(bye), event(bye)]).toEqual(['a', 'stopped']);
    b.fail(bye);
    const back = b.later();
    expect([host(back), event(back)]).toEqual(['a', 'started']);
    b.ok(back);
    expect(b.switches).toBe(2);
    expect(host(b.next())).toBe('b');
  });

  it('keep to one tracker over both families: the first that answers ends what goes on with others', () => {
    const b = new Bench(tiers, { families: [4, 6], exclusive: true, mode: 'all' });
    b.heard = true;
    b.announcer.start(0);
    const four = b.tick();
    const six = b.tick();
    b.quiet();
    b.fail(four);
    const onward = b.tick();
    expect(host(onward)).toBe('b');
    b.ok(six);
    // it may have heard our `started`
    expect(b.abandoned).toEqual([onward.id]);
    const bye = b.next();
    expect([host(bye), event(bye), bye.family]).toEqual(['b', 'stopped', 4]);
    b.ok(bye);
    b.quiet();
    const again = b.later();
    expect([host(again), again.family]).toEqual(['a', 4]);
    b.ok(again);
    expect(b.switches).toBe(0);
    expect(b.announcer.status(b.now).map(({ status }) => status)).toEqual(['working', 'idle', 'idle']);
  });

  it('do not ask twice what is being asked', () => {
    const b = new Bench(tiers, { families: [4, 6], exclusive: true });
    b.announcer.start(0);
    const four = b.tick();
    const six = b.tick();
    b.ok(four);
    b.quiet();
    b.ok(six);
    b.quiet();
    expect(b.abandoned).toEqual([]);
  });

  it('and move together', () => {
    const b = new Bench(tiers, { families: [4, 6], exclusive: true });
    b.announcer.start(0);
    b.ok(b.tick());
    b.ok(b.tick());
    const failed = new Set<Family>();
    let moved = b.later();
    for (; host(moved) === 'a'; moved = b.later()) {
      // while the other family has its tracker this one waits for it
      b.fail(moved);
      failed.add(moved.family);
    }
    expect([host(moved), failed.size]).toEqual(['b', 2]);
    b.ok(moved);
    expect(b.switches).toBe(1);
    expect(b.asked.splice(0).map((asked) => [host(asked), event(asked)])).toEqual([
      ['a', 'stopped'],
      ['a', 'stopped'],
    ]);
    const other = b.tick();
    expect([host(other), other.family === moved.family]).toEqual(['b', false]);
    b.ok(other);
    expect(b.switches).toBe(1);
  });
});

it('an exclusive torrent that lost its tracker looks for another over each family', () => {
  const b = new Bench([['http://1.2.3.4/announce'], ['http://b/announce']], { families: [4, 6], exclusive: true });
  b.announcer.start(0);
  b.ok(b.tick());
  // over IPv6 there is nobody to ask beside the tracker that answers
  b.quiet();
  const asked = Array.from({ length: 3 }, () => {
    const one = b.later();
    b.fail(one);
    return `${host(one)} ${one.family}`;
  });
  expect(asked.sort()).toEqual(['1.2.3.4 4', 'b 4', 'b 6']);
});

it('the longest lists cost little in every mode', () => {
  const many = Array.from({ length: 10_000 }, (_, i) => [`http://t${i}/announce`, `udp://t${i}:1`]);
  for (const mode of ['tier', 'all-tiers', 'all'] as const) {
    const quickest = quickestMs(200, () => {
      const b = new Bench(many, { mode, families: [4, 6] });
      b.announcer.start(0);
      for (let i = 0; i < 50; i++) b.announcer.tick(0);
      expect(b.asked.length).toBe(mode === 'tier' ? 2 : 50);
      b.announcer.stop(0);
    });
    expect(quickest).toBeLessThan(200);
  }
});
