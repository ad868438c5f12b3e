/** Runs scripts in a network namespace of their own, where the machine lets us make one. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

/** Two interfaces and loopback, so that multicast stays there. */
const NAMESPACE_SCRIPT = `
ip link add one type veth peer name two && ip link set lo up &&
ip addr add 10.9.1.1/24 dev one && ip addr add fd09:1::1/64 dev one nodad && ip link set one up &&
ip addr add 10.9.2.1/24 dev two && ip link set two up && exec "$0" "$1"
`;
const probe = spawnSync('unshare', ['-n', 'sh', '-c', 'ip link add one type veth peer name two'], { encoding: 'utf8' });

/** Why no network namespace can be made here; empty: one can. */
export const NAMESPACE_REASON: string =
  probe.error?.message ?? (probe.status === 0 ? '' : probe.stderr.trim() || `status ${probe.status}`);

/** What a script beside the tests prints as JSON, run in a namespace with `one` (10.9.1.1, fd09:1::1) and `two` (10.9.2.1). */
export function inNamespace(script: string): unknown {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const args = ['-n', 'sh', '-c', NAMESPACE_SCRIPT, process.execPath, path];
  const run = spawnSync('unshare', args, { encoding: 'utf8', timeout: 20_000 });
  expect(run.stderr).toBe('');
  return JSON.parse(run.stdout);
}
