import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readU16, readU32, utf8Decode, utf8Encode, writeU16, writeU32 } from '../base/bytes.ts';
import { Rng } from '../base/random.ts';
import { PORT_MAP_METHODS, type PortMapMethod, PortMapper, type PortMapStatus } from './port-map.ts';
import { ROUTER_PORT } from './port-map-packets.ts';
import type { UpnpRequest } from './upnp.ts';
import { SSDP_PORT } from './upnp-messages.ts';

const ROUTER = '10.0.0.1';
const LOCAL = '10.0.0.2';
const EXTERNAL = '203.0.113.7';

interface Entry {
  internal: number;
  client: string;
  lease: number;
}

/** A router whose manners the test sets, and the mapper that faces it. */
class World {
  now = 1000;
  bootedAt = 0;
  speaks: PortMapMethod[] = [];
  /** Key "tcp 6881" of the external side. */
  table = new Map<string, Entry>();
  /** Ports that are not to be had. */
  taken = new Set<string>();
  leaseS = 3600;
  /** Refuses with this code: of PCP, NAT-PMP, UPnP alike. */
  refusal = 0;
  upnpVersion = 1;
  onlyPermanent = false;
  /** NAT-PMP that forwards its own port as it is. */
  wholePort = 0;
  sent: string[] = [];
  requests: string[] = [];
  changes = 0;
  loses = false;
  /** Where requests may go; null: anywhere. */
  hosts: string | null = `http://${ROUTER}:5000/`;
  readonly mapper: PortMapper;
  readonly #events: { at: number; run: () => void }[] = [];

  constructor(methods: readonly PortMapMethod[] = PORT_MAP_METHODS, gateway: string | null = ROUTER) {
    this.mapper = new PortMapper({
      local: LOCAL,
      gateway,
      methods,
      random: new Rng(Uint32Array.of(1, 2, 3, 4)),
      rng: new Rng(Uint32Array.of(5, 6, 7, 8)),
      sink: {
        onMapSend: (bytes, ip, port) => this.#heard(bytes, ip, port),
        onMapRequest: (request) => this.#asked(request),
        onMapChanged: () => this.changes++,
      },
    });
  }

  run(ms: number): void {
    const end = this.now + ms;
    for (let steps = 0; ; steps++) {
      if (steps > 10_000) throw new Error('it spins');
      this.#events.sort((a, b) => a.at - b.at);
      const next = this.#events[0];
      const at = Math.min(next?.at ?? Infinity, Math.max(this.now, this.mapper.nextAt()));
      if (at > end) break;
      this.now = at;
      if (next !== undefined && next.at <= at) {
        this.#events.shift();
        next.run();
      } else this.mapper.tick(this.now);
    }
    this.now = end;
  }

  map(port = 6881, ms = 10_000): this {
    this.mapper.setPort(this.now, port);
    this.run(ms);
    return this;
  }

  get ports(): string[] {
    return [...this.table].map(([key, { internal, client }]) => `${key}>${client}:${internal}`).sort();
  }

  status(protocol: 'tcp' | 'udp' = 'tcp'): PortMapStatus {
    return this.mapper.status().find((one) => one.protocol === protocol)!;
  }

  later(ms: number, run: () => void): void {
    this.#events.push({ at: this.now + ms, run });
  }

  say(bytes: Uint8Array, port = ROUTER_PORT, ip = ROUTER): void {
    this.later(1, () => this.mapper.datagram(this.now, bytes, ip, port));
  }

  reboot(): void {
    this.table.clear();
    this.bootedAt = this.now;
  }

  get epochS(): number {
    return Math.floor((this.now - this.bootedAt) / 1000);
  }

  // ---- the router

  #heard(bytes: Uint8Array, ip: string, port: number): void {
    if (port === SSDP_PORT) {
      this.sent.push('search');
      const target = /\nST: (.*)\r/.exec(utf8Decode(bytes))![1];
      const isOurs = target!.endsWith('InternetGatewayDevice:1') && this.speaks.includes('upnp') && !this.loses;
      const text = `HTTP/1.1 200 OK\r\nST: ${target}\r\nLOCATION: http://${ROUTER}:5000/desc\r\n\r\n`;
      if (isOurs) this.say(utf8Encode(text), SSDP_PORT);
      return;
    }
    expect(ip).toBe(ROUTER);
    this.sent.push(bytes[0] === 2 ? 'pcp' : 'nat-pmp');
    if (this.loses) return;
    if (bytes[0] === 2 && this.speaks.includes('pcp')) this.say(this.#pcp(bytes));
    else if (this.speaks.includes('nat-pmp')) this.say(this.#natPmp(bytes));
  }

  #pcp(bytes: Uint8Array): Uint8Array {
    const reply = bytes.slice();
    reply[1] = 129;
    reply[3] = this.refusal;
    writeU32(reply, 8, this.epochS);
    reply.fill(0, 12, 24);
    const protocol = bytes[36] === 6 ? 'tcp' : 'udp';
    const lease = Math.min(this.leaseS, readU32(bytes, 4));
    writeU32(reply, 4, this.refusal === 0 ? lease : 120);
    if (this.refusal === 0) writeU16(reply, 42, this.#give(protocol, readU16(bytes, 40), readU16(bytes, 42), lease));
    reply.set([255, 255, 203, 0, 113, 7], 54);
    return reply;
  }

  #natPmp(bytes: Uint8Array): Uint8Array {
    const reply = new Uint8Array(bytes[1] === 0 ? 12 : 16);
    reply[1] = 128 + bytes[1]!;
    writeU32(reply, 4, this.epochS);
    if (bytes[0] !== 0) {
      writeU16(reply, 2, 1);
      return reply.subarray(0, 8);
    }
    writeU16(reply, 2, this.refusal);
    if (bytes[1] === 0) {
      reply.set([203, 0, 113, 7], 8);
      return reply;
    }
    const lease = Math.min(this.leaseS, readU32(bytes, 8));
    const internal = readU16(bytes, 4);
    writeU16(reply, 8, this.wholePort === 0 ? internal : 0);
    if (this.wholePort !== 0) writeU16(reply, 10, this.wholePort);
    else if (this.refusal === 0) {
      writeU16(reply, 10, this.#give(bytes[1] === 1 ? 'udp' : 'tcp', internal, readU16(bytes, 6), lease));
    }
    writeU32(reply, 12, lease);
    return reply;
  }

  #give(protocol: string, internal: number, wish: number, lease: number): number {
    for (const [key, entry] of this.table) {
      if (!key.startsWith(protocol) || entry.internal !== internal) continue;
      if (lease === 0) this.table.delete(key);
      else entry.lease = this.now + lease * 1000;
      return lease === 0 ? 0 : Number(key.slice(4));
    }
    if (lease === 0) return 0;
    let port = wish;
    while (this.taken.has(`${protocol} ${port}`) || this.table.has(`${protocol} ${port}`)) port++;
    this.table.set(`${protocol} ${port}`, { internal, client: LOCAL, lease: this.now + lease * 1000 });
    return port;
  }

  #asked(request: UpnpRequest): void {
    if (this.hosts !== null) expect(request.url.startsWith(this.hosts)).toBe(true);
    const action = request.headers['soapaction']?.split('#')[1]?.slice(0, -1) ?? 'GET';
    this.requests.push(action);
    if (this.loses) {
      this.later(request.timeoutMs, () => this.mapper.response(this.now, request.id, 0, null));
      return;
    }
    const [status, text] = this.#soap(action, utf8Decode(request.body ?? new Uint8Array(0)));
    this.later(5, () => this.mapper.response(this.now, request.id, status, utf8Encode(text)));
  }

  #soap(action: string, body: string): [number, string] {
    const value = (name: string): string => new RegExp(`<${name}>(.*)</${name}>`).exec(body)?.[1] ?? '';
    const fault = (code: number): [number, string] => [500, `<a><errorCode>${code}</errorCode></a>`];
    const type = `urn:schemas-upnp-org:service:WANIPConnection:${this.upnpVersion}`;
    const key = `${value('NewProtocol').toLowerCase()} ${value('NewExternalPort')}`;
    const lease = value('NewLeaseDuration') === '0' ? Infinity : this.now + 1000 * Number(value('NewLeaseDuration'));
    if (action === 'GET')
      return [200, `<a><service><serviceType>${type}</serviceType><controlURL>/c</controlURL></service></a>`];
    if (action === 'GetExternalIPAddress')
      return [200, `<a><NewExternalIPAddress>${EXTERNAL}</NewExternalIPAddress></a>`];
    if (action === 'DeletePortMapping') {
      return this.table.delete(key) ? [200, '<a><DeletePortMappingResponse/></a>'] : fault(714);
    }
    if (this.refusal !== 0) return fault(this.refusal);
    if (this.onlyPermanent && lease !== Infinity) return fault(725);
    const entry = { internal: Number(value('NewInternalPort')), client: value('NewInternalClient'), lease };
    if (action === 'AddAnyPortMapping') {
      if (this.upnpVersion < 2) return fault(401);
      let port = Number(value('NewExternalPort'));
      const keyOf = (): string => `${value('NewProtocol').toLowerCase()} ${port}`;
      while (this.taken.has(keyOf())) port++;
      this.table.set(keyOf(), entry);
      return [200, `<a><b><NewReservedPort>${port}</NewReservedPort></b></a>`];
    }
    if (this.taken.has(key)) return fault(718);
    this.table.set(key, entry);
    return [200, '<a><u:AddPortMappingResponse xmlns:u="x"/></a>'];
  }
}

describe.each(PORT_MAP_METHODS)('by %s', (method) => {
  function world(): World {
    const made = new World();
    made.speaks = [method];
    return made;
  }

  test('maps TCP and UDP, says where, and gives back', () => {
    const at = world().map();
    expect(at.ports).toEqual(['tcp 6881>10.0.0.2:6881', 'udp 6881>10.0.0.2:6881']);
    expect([at.mapper.externalPort, at.mapper.externalIp]).toEqual([6881, EXTERNAL]);
    expect(at.status()).toMatchObject({ method, gateway: ROUTER, externalPort: 6881, error: null });
    at.mapper.setPort(at.now, 0);
    expect(at.mapper.isIdle).toBe(false);
    at.run(1000);
    expect([at.ports, at.mapper.isIdle, at.mapper.externalPort]).toEqual([[], true, 0]);
    expect(at.mapper.nextAt()).toBe(Infinity);
  });

  test('renews at half the time, and no sooner', () => {
    const at = world().map();
    const count = (): number => at.sent.length + at.requests.length;
    const before = count();
    at.run(1_780_000);
    expect(count()).toBe(before);
    at.run(20_000);
    expect(count()).toBe(before + 2);
    at.run(12 * 3600_000);
    expect([...at.table.values()].every(({ lease }) => lease > at.now + 1_000_000)).toBe(true);
    expect(at.mapper.externalPort).toBe(6881);
  });

  test('follows another port of ours', () => {
    const at = world().map().map(7000);
    expect(at.ports).toEqual(['tcp 7000>10.0.0.2:7000', 'udp 7000>10.0.0.2:7000']);
  });

  test('TCP and UDP come to the same port, whichever of them is taken', () => {
    for (const taken of [['tcp 6881'], ['udp 6881'], ['tcp 6881', 'udp 6882', 'tcp 6883']]) {
      const at = world();
      at.taken = new Set(taken);
      at.map(6881, 60_000);
      const [tcp, udp] = [at.status('tcp').externalPort, at.status('udp').externalPort];
      expect(tcp).toBe(udp);
      expect(tcp).not.toBe(6881);
      expect(at.ports).toEqual([`tcp ${tcp}>10.0.0.2:6881`, `udp ${tcp}>10.0.0.2:6881`]);
    }
  });

  test('a refusal is reported, and not asked about all the time', () => {
    const at = world();
    at.refusal = method === 'upnp' ? 606 : 2;
    at.map(6881, 3600_000);
    expect(at.mapper.externalPort).toBe(0);
    expect(at.mapper.status().find(({ error }) => error === 'not allowed')).toBeDefined();
    expect(at.sent.filter((packet) => packet !== 'search').length).toBeLessThan(200);
    expect(at.requests.length).toBeLessThan(60);
    at.refusal = 0;
    at.run(1_900_000);
    expect(at.mapper.externalPort).toBe(6881);
  });

  test('a router that is restarted is asked again at the latest when the mapping is renewed', () => {
    const at = world().map();
    at.run(60_000);
    at.reboot();
    at.run(1_800_000);
    expect(at.ports.length).toBe(2);
  });

  test('one that has gone is given up when its promise ends, and found when it is back', () => {
    const at = world().map();
    at.loses = true;
    at.run(3_700_000);
    expect(at.mapper.externalPort).toBe(0);
    at.loses = false;
    at.reboot();
    at.run(1_200_000);
    expect(at.mapper.externalPort).toBe(6881);
  });

  test('an end in the middle of asking leaves nothing mapped', () => {
    for (let ms = 0; ms < 40; ms++) {
      const at = world();
      if (method === 'nat-pmp') at.speaks.push('pcp');
      at.mapper.setPort(at.now, 6881);
      at.run(method === 'upnp' ? 2000 + ms : ms);
      at.mapper.setPort(at.now, 0);
      at.run(30_000);
      expect([at.ports, at.mapper.nextAt()]).toEqual([[], Infinity]);
    }
  });

  test('an end does not wait for ever for a router that has gone', () => {
    const at = world().map();
    at.loses = true;
    at.mapper.setPort(at.now, 0);
    at.run(200_000);
    expect([at.mapper.isIdle, at.mapper.nextAt()]).toEqual([true, Infinity]);
  });
});

describe('which protocol', () => {
  test('PCP where it is spoken; nothing else is sent', () => {
    const at = new World();
    at.speaks = ['pcp', 'nat-pmp', 'upnp'];
    at.map(6881, 60_000);
    expect(new Set(at.sent)).toEqual(new Set(['pcp']));
    expect(at.requests).toEqual([]);
  });

  test('NAT-PMP at once where the router says so, or after a second of silence', () => {
    const at = new World();
    at.speaks = ['nat-pmp'];
    at.map(6881, 100);
    expect(at.sent).toEqual(['pcp', 'nat-pmp', 'nat-pmp', 'nat-pmp']);
    const deaf = new World(['pcp', 'nat-pmp']);
    deaf.map(6881, 30_000);
    expect(deaf.sent).toEqual([...'1111'].map(() => 'pcp').concat([...'11111'].map(() => 'nat-pmp')));
    deaf.run(560_000);
    expect(deaf.sent.length).toBe(9);
    deaf.run(60_000);
    expect(deaf.sent.length).toBe(18);
  });

  test('only those that are wished', () => {
    for (const method of PORT_MAP_METHODS) {
      const at = new World([method]);
      at.speaks = ['pcp', 'nat-pmp', 'upnp'];
      at.map();
      expect([at.status().method, at.mapper.externalPort]).toEqual([method, 6881]);
    }
  });

  test('UPnP alone where no router is known', () => {
    const at = new World(PORT_MAP_METHODS, null);
    at.speaks = ['pcp', 'upnp'];
    at.map();
    expect([at.status().method, new Set(at.sent)]).toEqual(['upnp', new Set(['search'])]);
  });

  test('what maps first stays: one that answers late is not asked again', () => {
    const at = new World();
    at.speaks = ['upnp'];
    at.map(6881, 6000);
    expect(at.status().method).toBe('upnp');
    at.speaks = ['pcp', 'upnp'];
    const before = at.sent.length;
    at.run(1_000_000);
    expect(at.sent.length).toBe(before);
    // and takes its place when it is gone
    at.speaks = ['pcp'];
    at.loses = true;
    at.run(3_600_000);
    at.loses = false;
    at.run(1_300_000);
    expect(at.status().method).toBe('pcp');
  });
});

describe('PCP and NAT-PMP', () => {
  test('lost packets are sent again after 250, 500 .. ms', () => {
    const at = new World();
    at.speaks = ['pcp'];
    at.map();
    at.mapper.setPort(at.now, 7000);
    at.loses = true;
    at.sent.length = 0;
    at.run(1_700);
    expect(at.sent.length).toBe(3);
    at.loses = false;
    at.run(5000);
    expect(at.ports).toEqual(['tcp 7000>10.0.0.2:7000', 'udp 7000>10.0.0.2:7000']);
  });

  test.each(['pcp', 'nat-pmp'] as const)('%s: a restart that is announced is answered at once', (method) => {
    const at = new World();
    at.speaks = [method];
    at.map();
    at.run(300_000);
    at.reboot();
    const announce = new Uint8Array(method === 'pcp' ? 24 : 12);
    announce[0] = method === 'pcp' ? 2 : 0;
    announce[1] = 128;
    announce.set([203, 0, 113, 7], 8);
    writeU32(announce, method === 'pcp' ? 8 : 4, 0);
    at.mapper.announced(at.now, announce, '10.0.0.66');
    at.run(1000);
    expect(at.ports).toEqual([]);
    at.mapper.announced(at.now, announce, ROUTER);
    at.run(1000);
    expect(at.ports.length).toBe(2);
    // one that goes on as it should changes nothing
    const before = at.sent.length;
    at.run(60_000);
    writeU32(announce, method === 'pcp' ? 8 : 4, at.epochS);
    at.mapper.announced(at.now, announce, ROUTER);
    at.run(1000);
    expect(at.sent.length).toBe(before);
  });

  test('announcements in a flood do not make us one', () => {
    const at = new World();
    at.speaks = ['pcp'];
    at.map();
    const before = at.sent.length;
    const announce = new Uint8Array(24);
    announce.set([2, 128]);
    for (let i = 0; i < 1000; i++) {
      writeU32(announce, 8, i % 2 === 0 ? 0 : 1_000_000);
      at.mapper.announced(at.now, announce, ROUTER);
      at.run(10);
    }
    expect(at.sent.length - before).toBeLessThan(6);
  });

  test('a gateway that forwards its own port as it is says where to listen', () => {
    const at = new World(['pcp', 'nat-pmp']);
    at.speaks = ['nat-pmp'];
    at.wholePort = 51_413;
    at.leaseS = 60;
    at.map();
    expect([at.mapper.wholePort, at.mapper.externalPort]).toEqual([51_413, 51_413]);
    const before = at.sent.length;
    at.mapper.setPort(at.now, 51_413);
    at.run(1000);
    expect([at.sent.length, at.mapper.wholePort]).toEqual([before, 51_413]);
    at.run(600_000);
    expect(at.mapper.externalPort).toBe(51_413);
    at.wholePort = 40_000;
    at.run(40_000);
    expect(at.mapper.wholePort).toBe(40_000);
  });

  test('only the router is believed, and only what answers the request', () => {
    const at = new World(['pcp', 'nat-pmp']);
    at.mapper.setPort(at.now, 6881);
    const forged = new Uint8Array(60);
    forged.set([2, 129]);
    writeU32(forged, 4, 3600);
    forged[36] = 6;
    writeU16(forged, 40, 6881);
    writeU16(forged, 42, 666);
    at.say(forged);
    at.say(forged, ROUTER_PORT, '10.0.0.66');
    at.say(new Uint8Array([0, 130, 0, 0, 0, 0, 0, 9, 26, 225, 2, 154, 0, 0, 14, 16]), 1234);
    at.run(100);
    expect(at.mapper.externalPort).toBe(0);
  });

  test('a lease of a second, or of for ever, and a port of 0', () => {
    const at = new World(['nat-pmp']);
    at.speaks = ['nat-pmp'];
    at.leaseS = 1;
    at.map(6881, 60_000);
    expect(at.sent.length).toBeLessThan(80);
    const greedy = new World(['nat-pmp']);
    greedy.mapper.setPort(greedy.now, 6881);
    greedy.say(new Uint8Array([0, 130, 0, 0, 0, 0, 0, 9, 26, 225, 0, 0, 0, 0, 14, 16]));
    greedy.run(100);
    expect(greedy.mapper.externalPort).toBe(0);
    greedy.say(new Uint8Array([0, 129, 0, 0, 0, 0, 0, 9, 26, 225, 26, 225, 255, 255, 255, 255]));
    greedy.run(100);
    expect(greedy.status('udp').expiresAt).toBeLessThan(greedy.now + 8 * 86_400_000);
  });
});

describe('UPnP', () => {
  function world(): World {
    const made = new World(['upnp']);
    made.speaks = ['upnp'];
    return made;
  }

  test('a router that gives for good only is looked after, and told of our end', () => {
    const at = world();
    at.onlyPermanent = true;
    at.map();
    expect([at.status().expiresAt, at.ports.length]).toEqual([Infinity, 2]);
    at.reboot();
    at.run(1_800_000);
    expect(at.ports.length).toBe(2);
    at.mapper.setPort(at.now, 0);
    at.run(1000);
    expect(at.ports).toEqual([]);
  });

  test('version 2 chooses another port by itself; one that lies about its version is asked as version 1', () => {
    const at = world();
    at.upnpVersion = 2;
    at.taken.add('tcp 6881');
    at.map();
    expect([at.status('tcp').externalPort, at.status('udp').externalPort]).toEqual([6882, 6882]);
    expect(at.requests).toContain('AddAnyPortMapping');
    expect(at.requests).not.toContain('AddPortMapping');
    at.run(1_800_000);
    expect(at.requests).toContain('AddPortMapping');
  });

  test('all ports taken is an end too', () => {
    const at = world();
    at.taken = { has: () => true } as unknown as Set<string>;
    at.map(6881, 500_000);
    expect(at.status()).toMatchObject({ externalPort: 0, error: 'the port is taken' });
    expect(at.requests.length).toBeLessThan(20);
  });

  test('whatever a router answers, nothing is mapped by it, nothing thrown, and the number of requests is small', () => {
    const body = fc.oneof(
      fc.constantFrom('', '<', '<a/>', '<html><body>404', `<a>${'<b>'.repeat(100)}`, '<a><errorCode>0</errorCode></a>'),
      fc.constantFrom(
        '<a><errorCode>718</errorCode></a>',
        '<a><errorCode>725</errorCode></a>',
        '<a><errorCode>401</errorCode></a>',
      ),
      fc.constant(
        '<a><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType><controlURL>/c</controlURL></service></a>',
      ),
      fc.string(),
    );
    const answer = fc.tuple(fc.constantFrom(0, 200, 200, 404, 500, 500), body);
    fc.assert(
      fc.property(fc.array(answer, { minLength: 1, maxLength: 12 }), (answers) => {
        const at = new World(['upnp']);
        at.speaks = ['upnp'];
        let n = 0;
        const mapper = at.mapper;
        const real = mapper.response.bind(mapper);
        mapper.response = (now, id) => {
          const [status, text] = answers[n++ % answers.length]!;
          real(now, id, status, status === 0 ? null : utf8Encode(text));
        };
        at.map(6881, 300_000);
        expect(mapper.externalPort).toBe(0);
        expect(at.requests.length).toBeLessThan(100);
        mapper.setPort(at.now, 0);
        at.run(100_000);
        expect(mapper.nextAt()).toBe(Infinity);
      }),
    );
  });

  test('many who answer the search are not all asked', () => {
    const at = new World(['upnp'], null);
    at.hosts = null;
    at.loses = true;
    at.mapper.setPort(at.now, 6881);
    for (let i = 1; i < 200; i++) {
      const ip = `10.0.1.${i}`;
      const text = `HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: http://${ip}/\r\n\r\n`;
      at.say(utf8Encode(text), SSDP_PORT, ip);
    }
    at.run(300_000);
    expect(at.requests.length).toBe(8);
    expect(at.status().error).toBe('the router does not answer');
  });
});
