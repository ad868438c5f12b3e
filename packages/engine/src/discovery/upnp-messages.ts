/**
 * What is said to a UPnP Internet Gateway Device, and what is read of its answers: search (SSDP), description, actions
 * (SOAP) of WANIPConnection 1 and 2, WANPPPConnection 1 and WANIPv6FirewallControl 1. Pure functions; nothing an answer
 * holds is trusted to be anything but text.
 */

import { latin1, utf8Encode } from '../base/bytes.ts';
import { formatEndpoint, formatIp, isLocal, isSameSubnet, parseIp } from '../base/ip.ts';
import { XmlReader, xmlEscape, xmlTexts } from './xml.ts';

export const SSDP_PORT = 1900;

/** One of the two things a router can do for us. */
export interface UpnpKind {
  /** The multicast group that is asked, and its name in the packet. */
  readonly group: string;
  readonly host: string;
  /** A device of version 2 answers to 1 as well, some routers only for their service. */
  readonly targets: readonly string[];
  /** In order of preference. */
  readonly services: readonly string[];
}

/** IPv4: ports that are forwarded. */
export const FORWARDS: UpnpKind = {
  group: '239.255.255.250',
  host: '239.255.255.250',
  targets: [
    'urn:schemas-upnp-org:device:InternetGatewayDevice:1',
    'urn:schemas-upnp-org:device:InternetGatewayDevice:2',
    'urn:schemas-upnp-org:service:WANIPConnection:1',
    'urn:schemas-upnp-org:service:WANPPPConnection:1',
  ],
  services: [
    'urn:schemas-upnp-org:service:WANIPConnection:2',
    'urn:schemas-upnp-org:service:WANIPConnection:1',
    'urn:schemas-upnp-org:service:WANPPPConnection:1',
  ],
};

/** IPv6: openings in the firewall. */
export const PINHOLES: UpnpKind = {
  group: 'ff02::c',
  host: '[FF02::C]',
  targets: [
    'urn:schemas-upnp-org:device:InternetGatewayDevice:2',
    'urn:schemas-upnp-org:service:WANIPv6FirewallControl:1',
  ],
  services: ['urn:schemas-upnp-org:service:WANIPv6FirewallControl:1'],
};

export const UpnpError = {
  UnknownAction: 401,
  InvalidArgs: 402,
  ActionFailed: 501,
  NotImplemented: 602,
  Conflict: 718,
  OnlyPermanent: 725,
  UsedByRouter: 729,
} as const;

const MAX_SERVICES = 4;
const MAX_DATAGRAM = 4096;
const MAX_URL = 1024;

/** An http URL whose host is an address. */
export interface GatewayUrl {
  /** Canonical text, without brackets. */
  readonly host: string;
  readonly port: number;
  /** With the query; begins with '/'. */
  readonly path: string;
}

export interface UpnpService {
  readonly type: string;
  readonly control: GatewayUrl;
}

export interface SoapReply {
  readonly values: ReadonlyMap<string, string>;
  /** Of a refusal, else 0. */
  readonly errorCode: number;
}

export function searchPacket({ host }: UpnpKind, target: string): Uint8Array {
  return utf8Encode(
    `M-SEARCH * HTTP/1.1\r\nHOST: ${host}:${SSDP_PORT}\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: ${target}\r\n\r\n`,
  );
}

/**
 * Where the device that answered at `from` describes itself. Null: no answer to us (who are at `local`), or one that leads
 * anywhere else than to that very address, or an address outside of local networks; over IPv6: outside of our own.
 */
export function readSearchReply(bytes: Uint8Array, from: string, local: string, kind: UpnpKind): GatewayUrl | null {
  if (bytes.length > MAX_DATAGRAM || !isNear(from, local)) return null;
  const lines = latin1(bytes).split('\n');
  if (!/^HTTP\/1\.[0-9] 200/.test(lines[0]!)) return null;
  let location: GatewayUrl | null = null;
  let isTarget = false;
  for (let i = 1; i < lines.length; i++) {
    const line = lines[i]!;
    const colon = line.indexOf(':');
    if (colon < 0) continue;
    const value = line.slice(colon + 1).trim();
    const name = line.slice(0, colon).trim().toLowerCase();
    if (name === 'location') location = parseGatewayUrl(value);
    else if (name === 'st') isTarget = kind.targets.includes(value);
  }
  return isTarget && location !== null && location.host === from ? location : null;
}

function isNear(from: string, local: string): boolean {
  const [theirs, ours] = [parseIp(from), parseIp(local)];
  if (theirs === null || ours === null || theirs.length !== ours.length) return false;
  return theirs.length === 4 ? isLocal(theirs) : isSameSubnet(theirs, ours);
}

/** Null: no http URL at an address. */
export function parseGatewayUrl(text: string): GatewayUrl | null {
  if (text.length > MAX_URL || !/^http:\/\//i.test(text) || !/^[\x21-\x7e]+$/.test(text)) return null;
  const slash = text.indexOf('/', 7);
  const authority = slash < 0 ? text.slice(7) : text.slice(7, slash);
  const path = slash < 0 ? '/' : text.slice(slash);
  const match = /^(?:([0-9.]{7,15})|\[([0-9a-f]{0,4}:[0-9a-f:.]{1,40})\])(?::([0-9]{1,5}))?$/i.exec(authority);
  const ip = match === null ? null : parseIp(match[1] ?? match[2]!);
  const port = match?.[3] === undefined ? 80 : Number(match[3]);
  if (ip === null || port < 1 || port > 65535 || path.includes('#')) return null;
  return { host: formatIp(ip), port, path };
}

/** A URL that a description names, absolute or not. Null: it leads elsewhere than to the same address. */
export function resolveGatewayUrl(base: GatewayUrl, text: string): GatewayUrl | null {
  if (text === '' || text.length > MAX_URL || !/^[\x21-\x7e]+$/.test(text) || text.includes('#')) return null;
  if (/^[a-z][a-z0-9+.-]*:/i.test(text) || text.startsWith('//')) {
    const url = parseGatewayUrl(text);
    return url?.host === base.host ? url : null;
  }
  const folder = base.path.split('?', 1)[0]!;
  const path = text.startsWith('/') ? text : folder.slice(0, folder.lastIndexOf('/') + 1) + text;
  return { ...base, path };
}

export function formatGatewayUrl({ host, port, path }: GatewayUrl): string {
  return `http://${formatEndpoint(host, port)}${path}`;
}

/** The services of a description that count, the best first; empty: it has none, or is no description. */
export function readDescription(xml: string, at: GatewayUrl, { services }: UpnpKind): UpnpService[] {
  const reader = new XmlReader(xml);
  const found: UpnpService[] = [];
  let base = at;
  let text = '';
  let type = '';
  let control = '';
  for (;;) {
    const token = reader.next();
    if (token === 'bad') return [];
    if (token === 'end') break;
    if (token === 'open') {
      text = '';
      if (reader.name === 'service') {
        type = '';
        control = '';
      }
    } else if (token === 'text') text += reader.text;
    else {
      const value = text.trim();
      text = '';
      if (reader.name === 'URLBase') base = resolveGatewayUrl(at, value) ?? at;
      else if (reader.name === 'serviceType') type = value;
      else if (reader.name === 'controlURL') control = value;
      else if (reader.name === 'service' && services.includes(type)) {
        const url = resolveGatewayUrl(base, control);
        if (url !== null && found.length < MAX_SERVICES) found.push({ type, control: url });
      }
    }
  }
  return found.sort((a, b) => services.indexOf(a.type) - services.indexOf(b.type));
}

/** The version that a service's type ends with. */
export function versionOf({ type }: UpnpService): number {
  return Number(type.slice(type.lastIndexOf(':') + 1));
}

export function soapBody(service: UpnpService, action: string, values: Readonly<Record<string, string>>): Uint8Array {
  let inner = '';
  for (const [name, value] of Object.entries(values)) inner += `<${name}>${xmlEscape(value)}</${name}>`;
  return utf8Encode(
    '<?xml version="1.0"?>\r\n' +
      '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
      's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">' +
      `<s:Body><u:${action} xmlns:u="${service.type}">${inner}</u:${action}></s:Body></s:Envelope>\r\n`,
  );
}

/** Null: no answer to an action. */
export function readSoapReply(status: number, xml: string, names: readonly string[]): SoapReply | null {
  const values = xmlTexts(xml, [...names, 'errorCode']);
  if (values === null) return null;
  const code = values.get('errorCode');
  if (status === 200) return { values, errorCode: 0 };
  return code !== undefined && /^[0-9]{3}$/.test(code) ? { values, errorCode: Number(code) } : null;
}

/** A port, or another number of 16 bits, as a reply writes it; 0: none. */
export function readPort(text: string | undefined): number {
  if (text === undefined || !/^[0-9]{1,5}$/.test(text)) return 0;
  const port = Number(text);
  return port <= 65535 ? port : 0;
}

export function errorText(code: number): string {
  return ERRORS[code] ?? `error ${code}`;
}

const ERRORS: Readonly<Record<number, string>> = {
  401: 'the action is unknown',
  402: 'the values do not suit the router',
  501: 'the router failed',
  606: 'not allowed',
  701: 'the router has no room',
  702: 'the router has no firewall up to open',
  703: 'the router lets nobody open its firewall',
  705: 'the router opens nothing for that protocol',
  716: 'the router wants another external port',
  718: 'the port is taken',
  724: 'internal and external port must be the same',
  725: 'only mappings for good are given',
  728: 'the router has no room',
  729: 'the port is used by the router itself',
};
