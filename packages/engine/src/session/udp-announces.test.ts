import { expect, test } from 'vitest';
import type { IoFault } from '../base/errors.ts';
import type { ProxySettings, Way } from '../base/proxy.ts';
import { Rng } from '../base/random.ts';
import type { TrackerRequest } from '../discovery/tracker.ts';
import type { SessionCore } from './core.ts';
import { UdpAnnounces } from './udp-announces.ts';

type Resolved = (fault: IoFault | null, ips: readonly string[]) => void;

/** The part of a session that is used, with names that are resolved when the test says so. */
class Bench {
  readonly turn = { now: 1000 };
  readonly resolving: Resolved[] = [];
  readonly ports = {
    random: new Rng(Uint32Array.of(1, 2, 3, 4)),
    net: { resolve: (_host: string, done: Resolved) => void this.resolving.push(done) },
  };
  readonly sent: string[] = [];
  readonly outcomes: string[] = [];
  readonly families = { v4: false, v6: false };
  proxy: ProxySettings | null = null;
  readonly announces: UdpAnnounces = new UdpAnnounces(this as unknown as SessionCore);

  begin(): void {}

  wayOf(): Way {
    return this.proxy === null ? 'direct' : 'off';
  }

  send(_bytes: Uint8Array, ip: string, port: number): boolean {
    this.sent.push(`${ip} ${port}`);
    return true;
  }

  start(url: string, family: 4 | 6 = 4): () => boolean {
    const infoHash = new Uint8Array(20);
    const request: TrackerRequest = {
      id: 1,
      protocol: 'udp',
      url,
      family,
      timeoutMs: 15_000,
      infoHash,
      announce: null,
    };
    return this.announces.start(request, {
      answered: () => void this.outcomes.push('answered'),
      scraped: () => void this.outcomes.push('scraped'),
      failed: ({ code, message }) => void this.outcomes.push(`${code}: ${message}`),
    });
  }

  until(end: number): void {
    while (this.announces.nextAt() <= end) {
      this.turn.now = Math.max(this.turn.now, this.announces.nextAt());
      this.announces.run(this.turn.now);
    }
    this.turn.now = end;
  }
}

test('a socket of its family is waited for, for a while', () => {
  for (const [opens, family] of [
    ['late', 4],
    ['never', 4],
    ['other', 6],
  ] as const) {
    const b = new Bench();
    b.start('udp://t.example:7', family);
    b.resolving[0]!(null, ['5.5.5.5', '2600::5', '2600::6']);
    b.until(2000);
    b.announces.udp = b;
    b.until(3000);
    expect(b.sent).toEqual([]);
    if (opens !== 'never') b.families.v4 = true;
    b.until(3200);
    expect(b.sent).toEqual(opens === 'late' ? ['5.5.5.5 7'] : []);
    b.until(6500);
    expect(b.outcomes).toEqual(opens === 'late' ? [] : [`ENOFAMILY: this session has no UDP socket for IPv${family}`]);
    b.until(60_000);
    expect(b.announces.nextAt()).toBe(Number.POSITIVE_INFINITY);
    expect(b.outcomes).toHaveLength(1);
  }
});

test('names without such an address, unknown names and URLs that make no sense fail for what they are', () => {
  const b = new Bench();
  b.announces.udp = b;
  b.families.v4 = true;
  b.start('udp://t.example:7', 6);
  b.resolving.pop()!(null, ['5.5.5.5']);
  b.start('udp://t.example:7');
  b.resolving.pop()!({ code: 'ENOTFOUND', message: 'no t.example' }, []);
  b.start('udp://t.example/announce');
  b.resolving.pop()!(null, ['0.0.0.0']);
  expect(b.outcomes).toEqual([
    'ENOFAMILY: t.example has no IPv6 address',
    'ENOTFOUND: no t.example',
    'EBADURL: udp://t.example/announce: a UDP tracker has a host and a port',
  ]);
  b.until(60_000);
  expect(b.sent).toEqual([]);
});

test('what is given up in any state is over', () => {
  const b = new Bench();
  expect(b.start('udp://t.example:7')()).toBe(false);
  b.resolving.pop()!(null, ['5.5.5.5']);
  const waiting = b.start('udp://t.example:7');
  b.resolving.pop()!(null, ['5.5.5.5']);
  expect(waiting()).toBe(false);
  b.announces.udp = b;
  b.families.v4 = true;
  b.until(30_000);
  const asked = b.start('udp://t.example:7');
  b.resolving.pop()!(null, ['5.5.5.5']);
  expect(b.sent).toEqual(['5.5.5.5 7']);
  expect(asked()).toBe(false);
  expect(asked()).toBe(false);
  b.until(100_000);
  expect(b.outcomes).toEqual([]);
  expect(b.announces.nextAt()).toBe(Number.POSITIVE_INFINITY);
});

test('a proxy that carries no datagrams says so, and nothing is sent', () => {
  const b = new Bench();
  b.announces.udp = b;
  b.families.v4 = true;
  b.proxy = { kind: 'http', host: 'p', port: 80, user: 'u', password: 'secret', peers: true, trackers: true };
  b.start('udp://t.example:7');
  b.resolving.pop()!(null, ['198.18.0.0']);
  expect(b.outcomes).toEqual(['EPROXYDENIED: the HTTP proxy p:80 carries no UDP']);
  b.until(60_000);
  expect(b.sent).toEqual([]);
});
