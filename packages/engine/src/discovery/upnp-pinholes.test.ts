import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8Decode, utf8Encode } from '../base/bytes.ts';
import { Rng } from '../base/random.ts';
import { PortMapper } from './port-map.ts';
import type { UpnpRequest } from './upnp.ts';
import { SSDP_PORT } from './upnp-messages.ts';

const LOCAL = '2001:db8:0:1::2';
const ROUTER = '2001:db8:0:1::1';
const SERVICE = 'urn:schemas-upnp-org:service:WANIPv6FirewallControl:1';

interface Opening {
  readonly client: string;
  readonly port: string;
  readonly protocol: string;
  until: number;
}

type Answer = readonly [status: number, body: string];

/** A router with a firewall, and the mapper that faces it. */
class World {
  now = 1000;
  openings = new Map<number, Opening>();
  lastId = 7;
  /** Of GetFirewallStatus. */
  enabled = '1';
  allowed = '1';
  /** Refuses with this code. */
  refusal = 0;
  silent = false;
  /** What it answers by turns, in place of all else. */
  answers: readonly Answer[] | null = null;
  location = `http://[${ROUTER}]:5000/desc`;
  from = ROUTER;
  sent: string[] = [];
  requests: string[] = [];
  readonly mapper: PortMapper = new PortMapper({
    local: LOCAL,
    gateway: 'fe80::1',
    methods: ['upnp'],
    random: new Rng(Uint32Array.of(1, 2, 3, 4)),
    rng: new Rng(Uint32Array.of(5, 6, 7, 8)),
    sink: {
      onMapSend: (bytes, ip, port) => this.#heard(utf8Decode(bytes), ip, port),
      onMapRequest: (request) => this.#asked(request),
      onMapChanged: () => {},
    },
  });
  readonly #events: { at: number; run: () => void }[] = [];

  run(ms: number): this {
    const end = this.now + ms;
    for (let steps = 0; ; steps++) {
      if (steps > 10_000) throw new Error('it spins');
      this.#events.sort((a, b) => a.at - b.at);
      const at = Math.min(this.#events[0]?.at ?? Infinity, Math.max(this.now, this.mapper.nextAt()));
      if (at > end) break;
      this.now = at;
      if (this.#events[0]?.at === at) this.#events.shift()!.run();
      else this.mapper.tick(at);
    }
    this.now = end;
    return this;
  }

  map(port = 6881, ms = 10_000): this {
    this.mapper.setPort(this.now, port);
    return this.run(ms);
  }

  get open(): string[] {
    return [...this.openings.values()].map(({ client, port, protocol }) => `${protocol} ${client} ${port}`);
  }

  count(action: string): number {
    return this.requests.filter((one) => one === action).length;
  }

  #later(ms: number, run: () => void): void {
    this.#events.push({ at: this.now + ms, run });
  }

  #heard(text: string, ip: string, port: number): void {
    expect([ip, port]).toEqual(['ff02::c', SSDP_PORT]);
    expect(text).toMatch(/^M-SEARCH \* HTTP\/1\.1\r\nHOST: \[FF02::C\]:1900\r\n/);
    this.sent.push(/\nST: (.*)\r/.exec(text)![1]!);
    const reply = `HTTP/1.1 200 OK\r\nST: ${this.sent.at(-1)}\r\nLOCATION: ${this.location}\r\n\r\n`;
    this.#later(3, () => this.mapper.datagram(this.now, utf8Encode(reply), this.from, SSDP_PORT));
  }

  #asked(request: UpnpRequest): void {
    expect(request.url.startsWith(`http://[${ROUTER}]:5000/`)).toBe(true);
    const action = request.headers['soapaction']?.split('#')[1]?.slice(0, -1) ?? 'GET';
    this.requests.push(action);
    const answers = this.answers;
    const [status, text] =
      answers === null
        ? this.#soap(action, utf8Decode(request.body ?? new Uint8Array(0)))
        : answers[this.requests.length % answers.length]!;
    const body = this.silent || status === 0 ? null : utf8Encode(text);
    const ms = body === null ? request.timeoutMs : 5;
    this.#later(ms, () => this.mapper.response(this.now, request.id, body === null ? 0 : status, body));
  }

  #soap(action: string, body: string): Answer {
    const value = (name: string): string => new RegExp(`<${name}>(.*)</${name}>`).exec(body)?.[1] ?? '';
    const fault = (code: number): Answer => [500, `<a><errorCode>${code}</errorCode></a>`];
    const id = Number(value('UniqueID'));
    if (this.silent) return [0, ''];
    if (action === 'GET') {
      const service = `<service><serviceType>${SERVICE}</serviceType><controlURL>/c</controlURL></service>`;
      return [200, `<a><service><serviceType>x</serviceType><controlURL>/x</controlURL></service>${service}</a>`];
    }
    if (action === 'GetFirewallStatus') {
      const said = `<FirewallEnabled>${this.enabled}</FirewallEnabled>`;
      return [200, `<a>${said}<InboundPinholeAllowed>${this.allowed}</InboundPinholeAllowed></a>`];
    }
    if (action === 'DeletePinhole') {
      return this.openings.delete(id) ? [200, '<a><u:DeletePinholeResponse xmlns:u="x"/></a>'] : fault(704);
    }
    if (this.refusal !== 0) return fault(this.refusal);
    if (action === 'UpdatePinhole') {
      const opening = this.openings.get(id);
      if (opening === undefined) return fault(704);
      opening.until = this.now + 1000 * Number(value('NewLeaseTime'));
      return [200, '<a><u:UpdatePinholeResponse xmlns:u="x"></u:UpdatePinholeResponse></a>'];
    }
    expect([value('RemoteHost'), value('RemotePort')]).toEqual(['', '0']);
    this.openings.set(++this.lastId, {
      client: value('InternalClient'),
      port: value('InternalPort'),
      protocol: value('Protocol'),
      until: this.now + 1000 * Number(value('LeaseTime')),
    });
    return [200, `<a><b><UniqueID>${this.lastId}</UniqueID></b></a>`];
  }
}

const BOTH = [`6 ${LOCAL} 6881`, `17 ${LOCAL} 6881`];

test('opens the firewall for TCP and UDP, says so, and closes it', () => {
  const at = new World().map();
  expect(at.open).toEqual(BOTH);
  expect(at.sent[0]).toBe('urn:schemas-upnp-org:device:InternetGatewayDevice:2');
  expect(at.requests).toEqual(['GET', 'GetFirewallStatus', 'AddPinhole', 'AddPinhole']);
  expect([at.mapper.externalPort, at.mapper.externalIp]).toEqual([6881, LOCAL]);
  expect(at.mapper.status()[0]).toMatchObject({ method: 'upnp', gateway: ROUTER, internalPort: 6881, error: null });
  at.mapper.setPort(at.now, 0);
  at.run(1000);
  expect([at.open, at.mapper.isIdle, at.mapper.nextAt()]).toEqual([[], true, Infinity]);
});

test('an opening whose number is 0 is closed too', () => {
  const at = new World();
  at.lastId = -1;
  at.map();
  at.mapper.setPort(at.now, 0);
  expect([at.run(1000).open, at.count('DeletePinhole')]).toEqual([[], 2]);
});

test('renews by number at half the time, and opens anew what the router has forgotten', () => {
  const at = new World().map();
  at.run(1_780_000);
  expect(at.count('UpdatePinhole')).toBe(0);
  at.run(20_000);
  expect([at.count('UpdatePinhole'), at.count('AddPinhole')]).toEqual([2, 2]);
  expect([...at.openings.values()].every(({ until }) => until > at.now + 3_500_000)).toBe(true);
  at.openings.clear();
  at.run(1_800_000);
  expect([at.count('UpdatePinhole'), at.count('AddPinhole')]).toEqual([4, 4]);
  expect(at.open).toEqual(BOTH);
  at.mapper.setPort(at.now, 0);
  expect(at.run(1000).open).toEqual([]);
});

test('follows another port of ours', () => {
  expect(new World().map().map(7000).open).toEqual([`6 ${LOCAL} 7000`, `17 ${LOCAL} 7000`]);
});

test('a router that lets nobody in is not asked to, and looked at again after a while', () => {
  for (const field of ['enabled', 'allowed'] as const) {
    const at = new World();
    at[field] = '0';
    at.map(6881, 500_000);
    expect(at.requests).toEqual(['GET', 'GetFirewallStatus']);
    expect(at.mapper.status()[0]!.error).toMatch(/firewall/);
    at[field] = '1';
    at.run(600_000);
    expect(at.open).toEqual(BOTH);
  }
});

test('a refusal is reported, and not asked about all the time', () => {
  const at = new World();
  at.refusal = 701;
  at.map(6881, 3_600_000);
  expect(at.mapper.status()[0]).toMatchObject({ externalPort: 0, error: 'the router has no room' });
  expect(at.requests.length).toBeLessThan(30);
  at.refusal = 0;
  at.run(1_900_000);
  expect(at.open).toEqual(BOTH);
});

test('an end in the middle of asking leaves nothing open', () => {
  for (let ms = 0; ms < 40; ms++) {
    const at = new World();
    at.map(6881, 5500 + ms);
    at.mapper.setPort(at.now, 0);
    at.run(30_000);
    expect([at.open, at.mapper.isIdle, at.mapper.nextAt()]).toEqual([[], true, Infinity]);
  }
});

test('one that falls silent is given up when its promise ends, and does not hold up the end', () => {
  const at = new World().map();
  at.silent = true;
  at.run(3_700_000);
  expect(at.mapper.externalPort).toBe(0);
  at.mapper.setPort(at.now, 0);
  at.run(20_000);
  expect([at.mapper.isIdle, at.mapper.nextAt()]).toEqual([true, Infinity]);
});

test('only who is in the network of our address is spoken with, at the address that answered', () => {
  for (const [from, location] of [
    ['2001:db8:0:2::1', 'http://[2001:db8:0:2::1]:5000/desc'],
    ['fe80::1', 'http://[fe80::1]:5000/desc'],
    [ROUTER, 'http://[2001:db8:0:1::3]:5000/desc'],
    [ROUTER, 'http://[::1]:5000/desc'],
    [ROUTER, 'http://10.0.0.1:5000/desc'],
    [ROUTER, `http://[${ROUTER}%25eth0]:5000/desc`],
    ['10.0.0.1', 'http://10.0.0.1:5000/desc'],
  ] as const) {
    const at = new World();
    at.from = from;
    at.location = location;
    at.map();
    expect(at.requests, location).toEqual([]);
  }
});

test('whatever a router answers, nothing is opened by it, nothing thrown, and the number of requests is small', () => {
  const body = fc.oneof(
    fc.constantFrom('', '<', '<a/>', '<a><errorCode>704</errorCode></a>', '<a><UniqueID>x</UniqueID></a>'),
    fc.constantFrom('<a><UniqueID>65536</UniqueID></a>', '<a><FirewallEnabled>0</FirewallEnabled></a>'),
    fc.constant(`<a><service><serviceType>${SERVICE}</serviceType><controlURL>/c</controlURL></service></a>`),
    fc.string(),
  );
  const answer: fc.Arbitrary<Answer> = fc.tuple(fc.constantFrom(0, 200, 200, 404, 500, 500), body);
  fc.assert(
    fc.property(fc.array(answer, { minLength: 1, maxLength: 12 }), (answers) => {
      const at = new World();
      at.answers = answers;
      at.map(6881, 300_000);
      expect(at.mapper.externalPort).toBe(0);
      expect(at.requests.length).toBeLessThan(100);
      at.mapper.setPort(at.now, 0);
      at.run(100_000);
      expect(at.mapper.nextAt()).toBe(Infinity);
    }),
  );
});
