/**
 * Openings in a router's IPv6 firewall: WANIPv6FirewallControl 1 (of IGD 2). Nothing is translated there: our own address
 * and port are what peers outside reach. An opening has a number that the router gave it, by which it is renewed and closed.
 *
 * Invariant: only openings to our own address are asked for; the specification lets no other be made, and whoever asks must
 * do so from that address.
 */

import { LEASE_S, type MapJob, type Mapping } from './port-map-pair.ts';
import { PINHOLES, readPort, type SoapReply, type UpnpKind } from './upnp-messages.ts';
import type { Refusal, UpnpAction, UpnpTalk } from './upnp-talk.ts';

/** IANA's numbers. */
const PROTOCOLS = { tcp: '6', udp: '17' } as const;
const ENABLED = 'FirewallEnabled';
const ALLOWED = 'InboundPinholeAllowed';
const UPDATED = 'UpdatePinholeResponse';
const ID = 'UniqueID';

export class UpnpPinholes implements UpnpTalk {
  readonly kind: UpnpKind = PINHOLES;
  readonly question: UpnpAction = { name: 'GetFirewallStatus', values: {}, names: [ENABLED, ALLOWED] };
  readonly leaseS: number = LEASE_S;
  externalIp: string | null = null;
  readonly #local: string;
  /** As the router numbers them: 0 to 65535. */
  readonly #ids: Map<Mapping, number> = new Map();

  /** `local`: which is to be reached. */
  constructor(local: string) {
    this.#local = local;
  }

  begin(): void {}

  answered(reply: SoapReply | null): string | null {
    if (isNo(reply?.values.get(ENABLED))) return 'the router has no firewall up to open';
    return isNo(reply?.values.get(ALLOWED)) ? 'the router lets nobody open its firewall' : null;
  }

  ask(job: MapJob): UpnpAction | null {
    const { mapping } = job;
    const id = mapping.externalPort === 0 ? undefined : this.#ids.get(mapping);
    if (job.unmap) {
      this.#ids.delete(mapping);
      return id === undefined ? null : { name: 'DeletePinhole', values: { UniqueID: `${id}` }, names: [] };
    }
    const lease = `${this.leaseS}`;
    if (id !== undefined) {
      return { name: 'UpdatePinhole', values: { UniqueID: `${id}`, NewLeaseTime: lease }, names: [UPDATED] };
    }
    return {
      name: 'AddPinhole',
      values: {
        RemoteHost: '',
        RemotePort: '0',
        InternalClient: this.#local,
        InternalPort: `${job.internalPort}`,
        Protocol: PROTOCOLS[mapping.protocol],
        LeaseTime: lease,
      },
      names: [ID],
    };
  }

  granted(job: MapJob, action: string, reply: SoapReply): number {
    if (action === 'UpdatePinhole') return reply.values.has(UPDATED) ? job.externalPort : 0;
    const text = reply.values.get(ID);
    const id = readPort(text);
    if (id === 0 && !/^0+$/.test(text ?? '')) return 0;
    this.#ids.set(job.mapping, id);
    this.externalIp = this.#local;
    return job.internalPort;
  }

  refused(job: MapJob, action: string): Refusal {
    if (action !== 'UpdatePinhole') return 'refused';
    // it knows it no more, whatever reason it gives
    this.#ids.delete(job.mapping);
    return 'again';
  }

  /** What has no number yet cannot be closed. */
  canUndo({ mapping }: MapJob): boolean {
    return mapping.externalPort !== 0;
  }
}

function isNo(text: string | undefined): boolean {
  return text === '0' || text?.toLowerCase() === 'false' || text?.toLowerCase() === 'no';
}
