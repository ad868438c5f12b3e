/** How peers outside are to reach us, as `get` and `seed` take it on the command line. */

import type { SessionOptions } from '@shoal/engine';
import type { Command } from 'commander';
import { checked } from './checked.ts';
import * as parse from './parse.ts';

export interface PortOptions {
  readonly portMap: boolean;
  readonly portFile?: string;
}

export function addPortOptions(command: Command): void {
  command
    .option('--no-port-map', 'do not ask routers to forward the port (PCP, NAT-PMP, UPnP)')
    .option(
      '--port-file <file>',
      'listen on the port that a VPN program writes there, and follow it',
      checked('--port-file', parse.parsePath),
    );
}

export function portSettings(options: PortOptions): Pick<SessionOptions, 'portMap' | 'portFile'> {
  return {
    ...(options.portMap ? {} : { portMap: false }),
    ...(options.portFile === undefined ? {} : { portFile: options.portFile }),
  };
}
