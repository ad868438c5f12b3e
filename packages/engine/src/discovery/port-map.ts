/**
 * Has one router forward a port to us, for TCP and UDP: by PCP or NAT-PMP where it speaks one of them, else by UPnP. Over
 * IPv6 there is PCP, and UPnP opens the firewall.
 *
 *     PCP / NAT-PMP --mapped--> UPnP is left alone
 *          '-- refused, or nothing after UPNP_AFTER_MS --> UPnP too; who maps first stays, the other one falls silent
 *
 * Sans-IO: datagrams and HTTP exchanges are the sink's. All requests go to the router, or to who answers a search in the
 * local network.
 */

import type { Random } from '../base/ports.ts';
import type { Rng } from '../base/random.ts';
import { GatewayMapper } from './port-map-gateway.ts';
import { type MapProtocol, PCP, ROUTER_PORT } from './port-map-packets.ts';
import { UpnpMapper, type UpnpRequest } from './upnp.ts';
import { UpnpForwards } from './upnp-forwards.ts';
import { SSDP_PORT } from './upnp-messages.ts';
import { UpnpPinholes } from './upnp-pinholes.ts';

export type PortMapMethod = 'pcp' | 'nat-pmp' | 'upnp';
export const PORT_MAP_METHODS: readonly PortMapMethod[] = ['pcp', 'nat-pmp', 'upnp'];

export interface PortMapSink {
  /** From the local address; the bytes are the callee's. */
  onMapSend(bytes: Uint8Array, ip: string, port: number): void;
  /** To be answered by `response`, later. */
  onMapRequest(request: UpnpRequest): void;
  /** What `status` says may be another now. */
  onMapChanged(): void;
}

export interface PortMapOptions {
  /** Of ours, facing the router: IP text. */
  readonly local: string;
  /** The router; null: not known, only a search can find it. */
  readonly gateway: string | null;
  readonly methods: readonly PortMapMethod[];
  readonly random: Random;
  readonly rng: Rng;
  readonly sink: PortMapSink;
}

/** How one protocol stands. */
export interface PortMapStatus {
  readonly protocol: MapProtocol;
  readonly method: PortMapMethod;
  readonly gateway: string | null;
  readonly internalPort: number;
  readonly externalIp: string | null;
  /** 0: it is not mapped. */
  readonly externalPort: number;
  /** Infinity: for good. */
  readonly expiresAt: number;
  readonly error: string | null;
}

/** A router that speaks PCP or NAT-PMP answers within milliseconds. */
const UPNP_AFTER_MS = 2_000;

export class PortMapper {
  readonly local: string;
  readonly gateway: string | null;
  readonly #sink: PortMapSink;
  readonly #direct: GatewayMapper | null;
  readonly #upnp: UpnpMapper | null;
  #port = 0;
  /** When UPnP is tried too, if nothing is mapped by then. */
  #upnpAt = Infinity;
  /** What UPnP was told to map. */
  #upnpPort = 0;
  #asksDirect = true;

  constructor(options: PortMapOptions) {
    const { local, gateway, methods, rng, random, sink } = options;
    this.local = local;
    this.gateway = gateway;
    this.#sink = sink;
    const isV4 = !local.includes(':');
    const pcp = methods.includes('pcp');
    const natPmp = methods.includes('nat-pmp') && isV4;
    this.#direct =
      gateway === null || (!pcp && !natPmp)
        ? null
        : new GatewayMapper({
            local,
            pcp,
            natPmp,
            random,
            sink: {
              onGatewaySend: (bytes) => sink.onMapSend(bytes, gateway, ROUTER_PORT),
              onGatewayChanged: () => sink.onMapChanged(),
            },
          });
    const talk = isV4 ? new UpnpForwards(local) : new UpnpPinholes(local);
    this.#upnp = methods.includes('upnp')
      ? new UpnpMapper({
          talk,
          local,
          gateway,
          rng,
          sink: {
            onUpnpSearch: (bytes) => sink.onMapSend(bytes, talk.kind.group, SSDP_PORT),
            onUpnpRequest: (request) => sink.onMapRequest(request),
            onUpnpChanged: () => sink.onMapChanged(),
          },
        })
      : null;
  }

  // ---------------------------------------------------------------------------------------------------------- inputs

  datagram(now: number, bytes: Uint8Array, ip: string, port: number): void {
    if (port === ROUTER_PORT) {
      if (ip === this.gateway) this.#direct?.datagram(now, bytes);
    } else this.#upnp?.datagram(now, bytes, ip);
    this.#choose(now);
  }

  /** Said to all of the network, by `ip`. */
  announced(now: number, bytes: Uint8Array, ip: string): void {
    if (ip === this.gateway) this.#direct?.announced(now, bytes);
  }

  /** Status 0 and no body: there was no answer. */
  response(now: number, id: number, status: number, body: Uint8Array | null): void {
    this.#upnp?.response(now, id, status, body);
    this.#choose(now);
  }

  tick(now: number): void {
    this.#direct?.tick(now);
    this.#upnp?.tick(now);
    this.#choose(now);
  }

  nextAt(): number {
    return Math.min(this.#direct?.nextAt() ?? Infinity, this.#upnp?.nextAt() ?? Infinity, this.#upnpAt);
  }

  // -------------------------------------------------------------------------------------------------------- commands

  /** The port of ours that is to be reached; 0: all is given back, which takes until `isIdle`. */
  setPort(now: number, port: number): void {
    if (port === this.#port) return;
    const isFirst = this.#port === 0;
    this.#port = port;
    if (this.#asksDirect) this.#direct?.setPort(now, port);
    if (port === 0 || this.#upnp === null) this.#upnpAt = Infinity;
    else if (isFirst) this.#upnpAt = this.#direct === null ? now : now + UPNP_AFTER_MS;
    if (this.#upnpPort !== 0) {
      this.#upnpPort = port;
      this.#upnp!.setPort(now, port);
    }
    this.#choose(now);
  }

  /** Nothing is left to be said. */
  get isIdle(): boolean {
    return (this.#direct?.isIdle ?? true) && (this.#upnp?.isIdle ?? true);
  }

  /** What peers outside are to be told; 0: nothing is mapped. */
  get externalPort(): number {
    // one that is being given back is none any more
    const kept = this.#serving?.pair.all.find(({ externalPort, drop }) => externalPort !== 0 && !drop);
    return kept?.externalPort ?? 0;
  }

  get externalIp(): string | null {
    return this.#serving?.externalIp ?? null;
  }

  /** The router forwards this port as it is: we are reached only if we listen there. 0: none. */
  get wholePort(): number {
    const { tcp } = this.#serving?.pair ?? {};
    return tcp?.whole === true ? tcp.externalPort : 0;
  }

  status(): PortMapStatus[] {
    const direct = this.#direct;
    const upnp = this.#upnp;
    // of two that failed, the one that has an answer says why
    const hasUpnp = this.#upnpPort !== 0 && upnp !== null && (upnp.pair.isMapped || upnp.device !== null);
    const isUpnp = direct === null || (!direct.pair.isMapped && hasUpnp);
    const mapper = isUpnp ? upnp : direct;
    if (mapper === null) return [];
    const method = isUpnp ? 'upnp' : direct?.version === PCP ? 'pcp' : 'nat-pmp';
    const gateway = isUpnp ? (upnp?.device ?? this.gateway) : this.gateway;
    return mapper.pair.all.map(({ protocol, internalPort, externalPort, expiresAt, error }) => ({
      protocol,
      method,
      gateway,
      internalPort: internalPort || this.#port,
      externalIp: mapper.externalIp,
      externalPort,
      expiresAt,
      error: error ?? (externalPort === 0 ? mapper.error : null),
    }));
  }

  // --------------------------------------------------------------------------------------------------------- private

  get #serving(): GatewayMapper | UpnpMapper | null {
    if (this.#direct?.pair.isMapped) return this.#direct;
    return this.#upnp?.pair.isMapped ? this.#upnp : null;
  }

  #choose(now: number): void {
    const direct = this.#direct;
    const upnp = this.#upnp;
    if (this.#port === 0 || upnp === null) return;
    const isDirect = direct?.pair.isMapped === true;
    const isUpnp = upnp.pair.isMapped;
    if (this.#upnpPort === 0) {
      if (isDirect) this.#upnpAt = Infinity;
      if (isDirect || (now < this.#upnpAt && !direct?.failed)) return;
      this.#upnpAt = Infinity;
      this.#upnpPort = this.#port;
      upnp.setPort(now, this.#port);
    } else if (isDirect) {
      this.#upnpPort = 0;
      upnp.stop();
    } else if (direct !== null && isUpnp === this.#asksDirect) {
      // a router may have one table for all protocols: what both asked for, one would take from the other
      this.#asksDirect = !isUpnp;
      if (isUpnp) direct.stop();
      else direct.setPort(now, this.#port);
    } else return;
    this.#sink.onMapChanged();
  }
}
