/** What a service of a router is asked for, by its kind: upnp-forwards.ts has IPv4, upnp-pinholes.ts IPv6. */

import type { MapJob } from './port-map-pair.ts';
import type { SoapReply, UpnpKind, UpnpService } from './upnp-messages.ts';

export interface UpnpAction {
  readonly name: string;
  readonly values: Readonly<Record<string, string>>;
  /** The elements of the answer that count. */
  readonly names: readonly string[];
}

/**
 * After a refusal: what is next for the same job ('again': the same another way; 'taken': another port), or that nothing is
 * to be had.
 */
export type Refusal = 'again' | 'taken' | 'refused';

export interface UpnpTalk {
  /** What is searched for, and which services of a description count. */
  readonly kind: UpnpKind;
  /** Canonical text, or null: not known yet. */
  readonly externalIp: string | null;
  /** Seconds that are asked for, and granted by whoever says yes; 0: for good. */
  readonly leaseS: number;
  /** This one is asked from now on. */
  begin(service: UpnpService): void;
  /** What is asked once, before all else. */
  readonly question: UpnpAction;
  /** Null: there was no answer that makes sense. Returns why nothing is to be had, or null. */
  answered(reply: SoapReply | null): string | null;
  /** Null: there is nothing to give back. */
  ask(job: MapJob): UpnpAction | null;
  /** The external port; 0: that is no answer. */
  granted(job: MapJob, action: string, reply: SoapReply): number;
  refused(job: MapJob, action: string, code: number): Refusal;
  /** What an action under way may bring about can be given back without its answer. */
  canUndo(job: MapJob): boolean;
}
