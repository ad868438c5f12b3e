/** Where `get` keeps what it needs to go on later: --state, else $XDG_STATE_HOME/shoal, else ~/.local/state/shoal. */

import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

export function defaultStateFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const base = env['XDG_STATE_HOME'];
  // The XDG specification: a relative path is to be ignored.
  if (base !== undefined && isAbsolute(base)) return join(base, 'shoal');
  return join(homedir(), '.local', 'state', 'shoal');
}
