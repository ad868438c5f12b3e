/**
 * Ports forwarded over IPv4: WANIPConnection 1 and 2, WANPPPConnection 1. Version 2 may choose another port by itself; one
 * that lies about its version is asked as version 1, one that gives for good only is asked for that.
 */

import { isUsablePeerAddress, parseIp } from '../base/ip.ts';
import { LEASE_S, type MapJob } from './port-map-pair.ts';
import {
  FORWARDS,
  readPort,
  type SoapReply,
  UpnpError,
  type UpnpKind,
  type UpnpService,
  versionOf,
} from './upnp-messages.ts';
import type { Refusal, UpnpAction, UpnpTalk } from './upnp-talk.ts';

const DESCRIPTION = 'Shoal';
/** An element without content that a router answers with. */
const GRANTED = 'AddPortMappingResponse';
const ADDRESS = 'NewExternalIPAddress';

export class UpnpForwards implements UpnpTalk {
  readonly kind: UpnpKind = FORWARDS;
  readonly question: UpnpAction = { name: 'GetExternalIPAddress', values: {}, names: [ADDRESS] };
  externalIp: string | null = null;
  leaseS: number = LEASE_S;
  readonly #local: string;
  /** Of version 2 only: it may choose another port by itself. */
  #mayChoose = false;

  /** `local`: to which is forwarded. */
  constructor(local: string) {
    this.#local = local;
  }

  begin(service: UpnpService): void {
    this.leaseS = LEASE_S;
    this.#mayChoose = versionOf(service) >= 2;
  }

  answered(reply: SoapReply | null): string | null {
    const text = reply?.values.get(ADDRESS) ?? '';
    const ip = parseIp(text);
    if (ip !== null && isUsablePeerAddress(ip, 1)) this.externalIp = text;
    return null;
  }

  ask(job: MapJob): UpnpAction {
    const NewProtocol = job.mapping.protocol.toUpperCase();
    const place = { NewRemoteHost: '', NewExternalPort: `${job.externalPort}`, NewProtocol };
    if (job.unmap) return { name: 'DeletePortMapping', values: place, names: [] };
    const isRenewal = job.mapping.externalPort !== 0;
    return {
      name: this.#mayChoose && !isRenewal ? 'AddAnyPortMapping' : 'AddPortMapping',
      values: {
        ...place,
        NewInternalPort: `${job.internalPort}`,
        NewInternalClient: this.#local,
        NewEnabled: '1',
        NewPortMappingDescription: DESCRIPTION,
        NewLeaseDuration: `${this.leaseS}`,
      },
      names: ['NewReservedPort', GRANTED],
    };
  }

  granted(job: MapJob, action: string, reply: SoapReply): number {
    if (action === 'AddAnyPortMapping') return readPort(reply.values.get('NewReservedPort'));
    return reply.values.has(GRANTED) ? job.externalPort : 0;
  }

  refused(_job: MapJob, action: string, code: number): Refusal {
    const isUnknown = code === UpnpError.UnknownAction || code === UpnpError.NotImplemented;
    if (action === 'AddAnyPortMapping' && (isUnknown || code === UpnpError.ActionFailed)) {
      this.#mayChoose = false;
      return 'again';
    }
    if (this.leaseS > 0 && (code === UpnpError.OnlyPermanent || code === UpnpError.InvalidArgs)) {
      this.leaseS = 0;
      return 'again';
    }
    return code === UpnpError.Conflict || code === UpnpError.UsedByRouter ? 'taken' : 'refused';
  }

  canUndo(): boolean {
    return true;
  }
}
