/** The options of a session: judged as they come from outside, and completed with the defaults for the core. */

import { ShoalError } from '../base/errors.ts';
import { type HostPort, parseEndpoint, parseIp } from '../base/ip.ts';
import type { ProxySettings } from '../base/proxy.ts';
import { parseProxyUrl } from '../codec/proxy-url.ts';
import { PORT_MAP_METHODS, type PortMapMethod } from '../discovery/port-map.ts';
import type { CoreOptions } from './core.ts';
import type { CoreDhtOptions } from './discovery.ts';
import type { Rates } from './limits.ts';
import type { SessionOptions } from './types.ts';

/** Throws ShoalError 'bad-option' for what only a closer look shows to be wrong; the rest `checkOptions` has seen. */
export function coreOptions(options: SessionOptions, hasIpv6: boolean): CoreOptions {
  return {
    port: options.port === undefined ? 0 : options.port,
    listenWhenChecked: options.listen === 'when-checked',
    bind: options.bind ?? (hasIpv6 ? ['0.0.0.0', '::'] : ['0.0.0.0']),
    interfaceName: options.interface ?? null,
    maxConnections: options.maxConnections ?? 500,
    uploadSlots: options.uploadSlots ?? 8,
    downloadLimit: options.downloadLimit ?? 0,
    uploadLimit: options.uploadLimit ?? 0,
    limitLan: options.limitLan ?? true,
    limitOverhead: options.limitOverhead ?? false,
    dht: coreDht(options.dht),
    pex: options.pex ?? true,
    lsd: options.lsd ?? true,
    portMap: portMapMethods(options),
    transport: options.transport ?? 'both',
    proxy: proxyOf(options.proxy ?? null, options.proxyPeers ?? true, options.proxyTrackers ?? true),
    anonymous: options.anonymous ?? false,
    clientRules: options.clientRules ?? [],
    encryption: options.encryption ?? 'allow',
    announceMode: options.announceMode ?? 'tier',
    log: options.log ?? null,
  };
}

/** Throws ShoalError 'bad-option'. */
export function checkOptions(options: SessionOptions): void {
  const { port } = options;
  if (port !== undefined && port !== null && !(Number.isInteger(port) && port >= 0 && port <= 65535)) {
    throw new ShoalError('bad-option', `port ${port} is not between 0 and 65535`);
  }
  if (port === null && options.portFile !== undefined) {
    throw new ShoalError('bad-option', 'a session that does not listen has no use for a port file');
  }
  for (const name of ['interface', 'portFile', 'ipFilter'] as const) {
    const text: unknown = options[name];
    if (text !== undefined && (typeof text !== 'string' || text === '')) {
      throw new ShoalError('bad-option', `${name} is a text that is not empty`);
    }
  }
  for (const ip of options.bind ?? []) {
    if (parseIp(ip) === null) throw new ShoalError('bad-option', `"${ip}" is no address to bind to`);
  }
  const { encryption, transport } = options;
  if (transport !== undefined && !['tcp', 'utp', 'both'].includes(transport)) {
    throw new ShoalError('bad-option', `transport is tcp, utp or both, not ${transport}`);
  }
  if (encryption !== undefined && !['off', 'allow', 'prefer', 'require'].includes(encryption)) {
    throw new ShoalError('bad-option', `encryption is off, allow, prefer or require, not ${encryption}`);
  }
  for (const name of ['downloadLimit', 'uploadLimit', 'memory', 'maxConnections', 'uploadSlots'] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isFinite(value) && value >= 0)) {
      throw new ShoalError('bad-option', `${name} is a number from 0 on, not ${value}`);
    }
  }
}

/** Throws ShoalError 'bad-option'. */
export function checkRates(rates: Rates): void {
  for (const rate of [rates.down ?? 0, rates.up ?? 0]) {
    if (!(Number.isFinite(rate) && rate >= 0)) throw new ShoalError('bad-option', `${rate} is no rate`);
  }
}

/** Throws ShoalError 'bad-option'. Null: no proxy. */
export function proxyOf(url: string | null, peers: boolean, trackers: boolean): ProxySettings | null {
  if (url === null) return null;
  const proxy = parseProxyUrl(url);
  if (typeof proxy === 'string') throw new ShoalError('bad-option', proxy);
  return { ...proxy, peers, trackers };
}

/** Of `host:port`. Throws ShoalError 'bad-option'. */
export function endpointOf(text: string): HostPort {
  const endpoint = parseEndpoint(text);
  if (endpoint === null) throw new ShoalError('bad-option', `"${text}" is not host:port`);
  return endpoint;
}

function coreDht(options: SessionOptions['dht']): CoreDhtOptions | null {
  if (options === false) return null;
  const { bootstrap, port, readOnly, uploadRate } = options === undefined || options === true ? {} : options;
  for (const node of bootstrap ?? []) endpointOf(node);
  return {
    bootstrap: bootstrap ?? null,
    port: port ?? null,
    readOnly: readOnly ?? false,
    uploadRateBps: uploadRate ?? 8000,
  };
}

function portMapMethods({ portMap, portFile }: SessionOptions): readonly PortMapMethod[] {
  // whoever has a port forwarded elsewhere is not reached by another one
  const wanted = portMap ?? portFile === undefined;
  return wanted === true ? PORT_MAP_METHODS : wanted === false ? [] : wanted;
}
