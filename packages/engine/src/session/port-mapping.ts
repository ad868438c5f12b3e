/**
 * Has the routers of this machine forward the session's port to it: owns which routers those are, the sockets towards
 * them, and what peers outside are told meanwhile. What is said to a router is discovery/port-map's.
 *
 * A *place* is an address of ours and the router it faces. A session that is bound to all addresses has one for IPv4, at
 * the router that the system prefers; one that is bound to certain addresses or to an interface has one for each of them.
 * Where the system does not name its routers, the first address of a private network is taken for one.
 *
 * Invariants: nothing is asked by loopback, nor before it is clear where the session listens; only its own port is mapped.
 * Limits: MAX_PLACES; a look at addresses and routers every LOOK_MS; IPv6 where the system names the router.
 */

import type { IoFault } from '../base/errors.ts';
import { formatEndpoint, isLocal, isLoopback, parseIp } from '../base/ip.ts';
import type { Endpoint, NetGateway, NetInterface, UdpSink, UdpSocket } from '../base/ports.ts';
import { type PortMapMethod, PortMapper, type PortMapSink } from '../discovery/port-map.ts';
import { ANNOUNCE_GROUP, ANNOUNCE_PORT } from '../discovery/port-map-packets.ts';
import type { UpnpRequest } from '../discovery/upnp.ts';
import type { CoreOptions, SessionCore } from './core.ts';
import type { PortMappingInfo } from './types.ts';

const LOOK_MS = 15_000;
const MAX_PLACES = 4;
/** What a session waits for its routers at its end. */
const GOODBYE_MS = 1_500;
/** How often it moves to a port that a gateway forwards as it is, in an hour. */
const MAX_MOVES = 6;
const HOUR_MS = 3_600_000;

/** An address of ours and the router it faces. */
export interface MapPlace {
  readonly local: string;
  /** Null: not known. */
  readonly gateway: string | null;
  /** IPv6: the network interface that leads there, which groups are not reached without. */
  readonly zone: string | null;
}

export class PortMapping {
  readonly #core: SessionCore;
  readonly #methods: readonly PortMapMethod[];
  readonly #places: Map<string, Place> = new Map();
  #started = false;
  #lookAtMs = Infinity;
  #announced = 0;
  #moves = 0;
  #movesSinceMs = 0;
  #ended: (() => void) | null = null;

  constructor(core: SessionCore, methods: readonly PortMapMethod[]) {
    this.#core = core;
    this.#methods = methods;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  /** It is clear where the session listens, anew perhaps. */
  listening(): void {
    this.#started = true;
    this.#lookAtMs = 0;
    this.run(this.#core.turn.now);
  }

  run(now: number): void {
    if (!this.#started) return;
    if (now >= this.#lookAtMs && this.#ended === null) {
      this.#lookAtMs = now + LOOK_MS;
      this.#look(now);
    }
    for (const place of this.#places.values()) place.mapper.tick(now);
    if (this.#ended !== null && this.#isIdle) this.#end();
  }

  nextAt(): number {
    if (!this.#started) return Infinity;
    let at = this.#ended === null ? this.#lookAtMs : Infinity;
    for (const { mapper } of this.#places.values()) at = Math.min(at, mapper.nextAt());
    return at;
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** Gives all back, as far as the routers answer in time. */
  close(done: () => void): void {
    if (!this.#started || this.#ended !== null) return done();
    const cancel = this.#core.alarm(GOODBYE_MS, () => this.#end());
    this.#ended = () => {
      cancel();
      done();
    };
    for (const { mapper } of this.#places.values()) mapper.setPort(this.#core.turn.now, 0);
    if (this.#isIdle) this.#end();
  }

  /** The port that peers beyond the router reach us at over IPv4; 0: nothing is mapped. */
  get externalPort(): number {
    for (const { mapper } of this.#places.values()) {
      if (!mapper.local.includes(':') && mapper.externalPort !== 0) return mapper.externalPort;
    }
    return 0;
  }

  status(): PortMappingInfo[] {
    const { now } = this.#core.turn;
    return [...this.#places.values()].flatMap(({ mapper }) => {
      return mapper.status().map((one) => ({
        protocol: one.protocol,
        method: one.method,
        gateway: one.gateway,
        internal: { ip: mapper.local, port: one.internalPort },
        externalIp: one.externalIp,
        externalPort: one.externalPort === 0 ? null : one.externalPort,
        expiresS: one.externalPort === 0 || one.expiresAt === Infinity ? null : Math.ceil((one.expiresAt - now) / 1000),
        error: one.error,
      }));
    });
  }

  // ---- of the places

  /** What a place says may be another. */
  changed(place: Place): void {
    const core = this.#core;
    if (this.#ended === null) place.report(core.options.log);
    const { externalIp, gateway } = place.mapper;
    const ip = externalIp === null ? null : parseIp(externalIp);
    if (ip !== null && gateway !== null) core.discovery.vote(ip, gateway, 'router');
    if (this.#ended !== null) return;
    const port = this.externalPort;
    if (port !== this.#announced) {
      this.#announced = port;
      core.portMapped();
    }
    this.#follow(place.mapper.wholePort);
  }

  // --------------------------------------------------------------------------------------------------------- private

  /** A gateway forwards this port as it is: we are reached only if we listen there. */
  #follow(port: number): void {
    const core = this.#core;
    if (port === 0 || port === core.port || core.port === 0) return;
    const { now } = core.turn;
    if (now - this.#movesSinceMs >= HOUR_MS) {
      this.#movesSinceMs = now;
      this.#moves = 0;
    }
    if (this.#moves++ < MAX_MOVES) core.setPort(port);
  }

  #look(now: number): void {
    const { net } = this.#core.ports;
    const isOpen = this.#core.wayOf('port-map') === 'direct';
    const wanted = placesOf(isOpen ? this.#core.binding.addresses : [], net.interfaces(), net.gateways());
    for (const [key, place] of this.#places) {
      if (wanted.has(key) && !place.isDead) continue;
      this.#places.delete(key);
      place.close();
      this.changed(place);
    }
    for (const [key, at] of wanted) {
      if (!this.#places.has(key)) this.#places.set(key, new Place(this.#core, this, at, this.#methods));
    }
    for (const place of this.#places.values()) place.wish(now);
  }

  get #isIdle(): boolean {
    return [...this.#places.values()].every(({ mapper }) => mapper.isIdle);
  }

  #end(): void {
    const ended = this.#ended;
    this.#started = false;
    for (const place of this.#places.values()) place.close();
    this.#places.clear();
    ended?.();
  }
}

/** One router, and the socket towards it. */
class Place implements UdpSink, PortMapSink {
  readonly mapper: PortMapper;
  isDead = false;
  readonly #core: SessionCore;
  readonly #owner: PortMapping;
  /** Where the router is reached: with a zone, other than where its answers come from. */
  readonly #gateway: string | null;
  readonly #zone: string | null;
  readonly #socket: UdpSocket;
  readonly #announces: UdpSocket | null;
  readonly #requests = new Set<{ abort(): void }>();
  #bound = false;
  #reported = '';

  constructor(core: SessionCore, owner: PortMapping, at: MapPlace, methods: readonly PortMapMethod[]) {
    this.#core = core;
    this.#owner = owner;
    this.#gateway = at.gateway;
    this.#zone = at.zone;
    const gateway = at.gateway?.split('%', 1)[0] ?? null;
    this.mapper = new PortMapper({
      local: at.local,
      gateway,
      methods,
      random: core.ports.random,
      rng: core.rng,
      sink: this,
    });
    const { net } = core.ports;
    this.#socket = net.udp({ ip: at.local, port: 0 }, { group: null, shared: false, bufferBytes: 0 }, this);
    // restarts are announced over IPv4 there; whoever cannot hear of them sees it when the mapping is renewed
    this.#announces = at.local.includes(':')
      ? null
      : net.udp(
          { ip: at.local, port: ANNOUNCE_PORT },
          { group: ANNOUNCE_GROUP, shared: true, bufferBytes: 0 },
          {
            onUdpBound: () => {},
            onDatagram: (bytes, ip) => this.#announced(bytes, ip),
            onUdpFault: () => {},
          },
        );
  }

  close(): void {
    this.isDead = true;
    this.#socket.close();
    this.#announces?.close();
    for (const request of this.#requests) request.abort();
    this.#requests.clear();
  }

  /** Asks for the port that the session listens at, once that is known. */
  wish(now: number): void {
    if (this.#bound && !this.isDead && !this.#core.listenPending) this.mapper.setPort(now, this.#core.port);
  }

  /** Says how it stands, when that is news. */
  report(log: CoreOptions['log']): void {
    if (log === null) return;
    const lines = this.mapper.status().map((one) => {
      const { method, protocol, externalIp, externalPort, internalPort, error } = one;
      const how =
        externalPort === 0 ? `not mapped (${error ?? 'asking'})` : formatEndpoint(externalIp ?? '?', externalPort);
      return `port mapping: ${protocol} ${internalPort} by ${method}: ${how}`;
    });
    const text = lines.join('\n');
    if (text === this.#reported || this.isDead) return;
    this.#reported = text;
    for (const line of lines) log(line, null);
  }

  // ---- sinks

  onUdpBound(_local: Endpoint): void {
    if (this.isDead) return;
    this.#core.begin();
    this.#bound = true;
    this.wish(this.#core.turn.now);
  }

  onDatagram(bytes: Uint8Array, ip: string, port: number): void {
    if (this.isDead) return;
    this.#core.begin();
    this.mapper.datagram(this.#core.turn.now, bytes, ip, port);
  }

  onUdpFault(fault: IoFault): void {
    if (this.isDead) return;
    this.#core.options.log?.(`port mapping: ${fault.message}`, null);
    this.close();
  }

  onMapSend(bytes: Uint8Array, ip: string, port: number): void {
    const isGroup = ip.startsWith('ff') && this.#zone !== null;
    this.#socket.send(bytes, ip === this.mapper.gateway ? this.#gateway! : isGroup ? `${ip}%${this.#zone}` : ip, port);
  }

  onMapRequest({ id, url, headers, body, timeoutMs, maxBytes }: UpnpRequest): void {
    const { local } = this.mapper;
    const family: 4 | 6 = local.includes(':') ? 6 : 4;
    const request = {
      ...(body === null ? {} : { method: 'POST' as const, body }),
      // routers map for whoever asks, by the address that he asks from
      ...{ url, headers, timeoutMs, maxBytes, maxRedirects: 0, origin: 'gateway' as const, from: local, family },
    };
    const handle = this.#core.ports.http.get(request, (fault, response) => {
      this.#requests.delete(handle);
      if (this.isDead) return;
      this.#core.begin();
      if (fault !== null) this.#core.options.log?.(`port mapping: ${fault.message}`, null);
      this.mapper.response(this.#core.turn.now, id, response?.status ?? 0, response?.body ?? null);
    });
    this.#requests.add(handle);
  }

  onMapChanged(): void {
    this.#owner.changed(this);
  }

  #announced(bytes: Uint8Array, ip: string): void {
    if (this.isDead) return;
    this.#core.begin();
    this.mapper.announced(this.#core.turn.now, bytes, ip);
  }
}

/** By key. `bind`: addresses of ours, unspecified ones stand for all of their family. */
export function placesOf(
  bind: readonly string[],
  interfaces: readonly NetInterface[],
  gateways: readonly NetGateway[],
): Map<string, MapPlace> {
  const found = new Map<string, MapPlace>();
  const add = (local: string, gateway: string | null, device: string): void => {
    const zone = local.includes(':') ? device : null;
    if (found.size < MAX_PLACES) found.set(`${local} ${gateway}`, { local, gateway, zone });
  };
  for (const ip of bind) {
    if (isLoopback(ip)) continue;
    const v6 = ip.includes(':');
    const ways = gateways.filter((one) => one.ip.includes(':') === v6);
    const candidates = interfaces.filter((at) => !at.loopback && at.ip.includes(':') === v6 && isFit(at));
    if (ip === '0.0.0.0' || ip === '::') {
      const [way] = ways;
      if (way !== undefined) {
        const there = candidates.filter(({ name }) => name === way.interfaceName);
        const near = there.filter((at) => isWithin(way.ip, at));
        for (const at of v6 ? there : (near.length > 0 ? near : there).slice(0, 1)) add(at.ip, way.ip, at.name);
      } else if (!v6) for (const at of candidates) add(at.ip, guess(at), at.name);
    } else {
      const at = candidates.find((one) => one.ip === ip);
      if (at === undefined) continue;
      const way = ways.find(({ interfaceName }) => interfaceName === at.name);
      if (way !== undefined) add(ip, way.ip, at.name);
      else if (!v6) add(ip, guess(at), at.name);
    }
  }
  return found;
}

/** IPv4: behind a router are private addresses. IPv6: only addresses that others could reach need an opening. */
function isFit({ ip }: NetInterface): boolean {
  const bytes = parseIp(ip);
  return bytes !== null && isLocal(bytes) === (bytes.length === 4);
}

/** Most routers are the first address of their network; a VPN's gateway of the 256 that the address is in. */
function guess({ ip, prefix }: NetInterface): string | null {
  const bytes = parseIp(ip)!;
  const kept = Math.max(8, Math.min(prefix, 24));
  const first = bytes.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, kept - 8 * i))) & 0xff);
  first[3]! |= 1;
  const text = [...first].join('.');
  return text === ip ? null : text;
}

function isWithin(ip: string, { ip: other, prefix }: NetInterface): boolean {
  const a = parseIp(ip);
  const b = parseIp(other);
  if (a === null || b === null || a.length !== b.length) return false;
  for (let i = 0, left = prefix; left > 0; i++, left -= 8) {
    const mask = left >= 8 ? 0xff : 0xff << (8 - left);
    if (((a[i]! ^ b[i]!) & mask & 0xff) !== 0) return false;
  }
  return true;
}
