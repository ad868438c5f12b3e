/** By which ways and with whom one speaks, as `get`, `seed`, `info` and `dht` take it on the command line. */

import { networkInterfaces } from 'node:os';
import type { SessionOptions } from '@shoal/engine';
import { type Command, Option } from 'commander';
import { checked, collect } from './checked.ts';
import { UsageError } from './exit-code.ts';
import { sanitize } from './format.ts';
import * as parse from './parse.ts';

/** What every command that reaches the network takes. */
export interface WayOptions {
  readonly bind: readonly string[];
  readonly interface?: string;
  readonly proxy?: string;
  readonly anonymous: boolean;
  readonly ipFilter?: string;
}

/** What those that meet peers take besides. */
export interface PeerWayOptions extends WayOptions {
  readonly proxyPeers: boolean;
  readonly proxyTrackers: boolean;
  readonly transport?: 'tcp' | 'utp' | 'both';
  readonly encryption?: 'off' | 'allow' | 'prefer' | 'require';
}

export function addWayOptions(command: Command): void {
  command
    .option(
      '--bind <addr>',
      'local address to listen on and connect from; may be repeated',
      collect('--bind', parse.parseAddress),
      [],
    )
    .option('--interface <name>', 'network interface that everything goes by, or nothing at all: tun0')
    .option('--proxy <url>', 'socks5://user:password@host:port, socks4:// or http://; what it cannot carry is off')
    .option('--anonymous', 'tell others no more than must be', false)
    .option(
      '--ip-filter <file>',
      'block list (P2P, DAT or CIDR, gzip or not): speak with nobody on it',
      checked('--ip-filter', parse.parsePath),
    );
}

export function addPeerWayOptions(command: Command): void {
  addWayOptions(command);
  command
    .addOption(new Option('--proxy-peers').default(true).hideHelp())
    .option('--no-proxy-peers', 'reach peers, and the DHT, without the proxy')
    .addOption(new Option('--proxy-trackers').default(true).hideHelp())
    .option('--no-proxy-trackers', 'reach trackers without the proxy')
    .addOption(
      new Option('--transport <which>', 'how peers are reached (default: both)').choices(['tcp', 'utp', 'both']),
    )
    .addOption(
      new Option('--encryption <how>', 'of connections to peers (default: allow)').choices([
        'off',
        'allow',
        'prefer',
        'require',
      ]),
    );
}

export function waySettings(options: WayOptions): SessionOptions {
  const { bind, interface: name, proxy, anonymous, ipFilter } = options;
  if (name === '') throw new UsageError('--interface: give the name of one, like tun0');
  if (bind.length > 0 && name !== undefined) throw new UsageError('--bind and --interface exclude each other');
  return {
    anonymous,
    ...(bind.length === 0 ? {} : { bind }),
    ...(name === undefined ? {} : { interface: name }),
    ...(proxy === undefined ? {} : { proxy }),
    ...(ipFilter === undefined ? {} : { ipFilter }),
  };
}

/** Whether this proxy is of a kind without datagrams; what is no proxy at all the session refuses. */
export function carriesNoUdp(proxy: string | undefined): boolean {
  return proxy !== undefined && /^(https?|socks4a?):/i.test(proxy);
}

/** What is worth a word before it begins: with an interface that is not up nothing leaves, and nothing else would say so. */
export function wayNotes({ interface: name }: Pick<WayOptions, 'interface'>): string[] {
  if (name === undefined || networkInterfaces()[name] !== undefined) return [];
  return [`no interface '${sanitize(name)}' is up; nothing is sent or heard until one is`];
}

export function peerWaySettings(options: PeerWayOptions): SessionOptions {
  const { proxy, proxyPeers, proxyTrackers, transport, encryption } = options;
  if (proxy === undefined && !(proxyPeers && proxyTrackers)) {
    throw new UsageError(`--no-proxy-${proxyPeers ? 'trackers' : 'peers'} is about a --proxy`);
  }
  if (transport === 'utp' && proxyPeers && carriesNoUdp(proxy)) {
    throw new UsageError(
      '--transport utp goes by UDP, which only a socks5:// proxy carries; peers would be out of reach',
    );
  }
  return {
    ...waySettings(options),
    proxyPeers,
    proxyTrackers,
    ...(transport === undefined ? {} : { transport }),
    ...(encryption === undefined ? {} : { encryption }),
  };
}
