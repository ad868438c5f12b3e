/** How peers are looked for, as `get`, `seed` and `info` take it on the command line. */

import type { SessionOptions } from '@shoal/engine';
import type { Command } from 'commander';
import { checked, collect } from './checked.ts';
import { UsageError } from './exit-code.ts';
import * as parse from './parse.ts';

export interface DiscoveryOptions {
  readonly dht: boolean;
  readonly dhtBootstrap: readonly string[];
  readonly dhtPort?: number;
  readonly pex: boolean;
  readonly lsd: boolean;
}

export function addDiscoveryOptions(command: Command): void {
  command
    .option('--no-dht', 'do not use the DHT')
    .option(
      '--dht-bootstrap <host:port>',
      'DHT node to begin with instead of the public ones; may be repeated',
      collect('--dht-bootstrap', parse.parseNode),
      [],
    )
    .option(
      '--dht-port <n>',
      'UDP port of the DHT (default: the same as --port)',
      checked('--dht-port', parse.parsePort),
    )
    .option('--no-pex', 'do not exchange addresses of peers with peers')
    .option('--no-lsd', 'do not look for peers in the local network');
}

export function discoverySettings(options: DiscoveryOptions): Pick<SessionOptions, 'dht' | 'pex' | 'lsd'> {
  const { dht, dhtBootstrap: bootstrap, dhtPort: port, pex, lsd } = options;
  if (!dht) {
    if (bootstrap.length > 0) throw new UsageError('--no-dht and --dht-bootstrap exclude each other');
    if (port !== undefined) throw new UsageError('--no-dht and --dht-port exclude each other');
    return { dht: false, pex, lsd };
  }
  return {
    dht: { ...(bootstrap.length === 0 ? {} : { bootstrap }), ...(port === undefined ? {} : { port }) },
    pex,
    lsd,
  };
}
