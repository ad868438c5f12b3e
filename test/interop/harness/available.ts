/** What can be tested here, and why the rest cannot. */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export type Need =
  | 'transmission'
  | 'qbittorrent'
  | 'aria2'
  | 'rtorrent'
  | 'libtorrent'
  | 'webtorrent'
  | 'opentracker'
  | 'transmission-create'
  | 'mktorrent'
  | 'miniupnpd'
  | 'nft'
  | 'danted'
  | 'microsocks'
  | 'squid'
  | 'dropbear'
  | 'ssh'
  | 'namespace'
  | 'lan';

export const PYTHON = '/usr/bin/python3';
export const WEBTORRENT: string = fileURLToPath(new URL('../webtorrent/', import.meta.url));

const PROGRAMS: Partial<Record<Need, readonly [program: string, debianPackage: string]>> = {
  transmission: ['transmission-daemon', 'transmission-daemon'],
  qbittorrent: ['qbittorrent-nox', 'qbittorrent-nox'],
  aria2: ['aria2c', 'aria2'],
  rtorrent: ['rtorrent', 'rtorrent'],
  opentracker: ['opentracker', 'opentracker'],
  'transmission-create': ['transmission-create', 'transmission-cli'],
  mktorrent: ['mktorrent', 'mktorrent'],
  miniupnpd: ['miniupnpd', 'miniupnpd'],
  nft: ['nft', 'nftables'],
  danted: ['danted', 'dante-server'],
  microsocks: ['microsocks', 'microsocks'],
  squid: ['squid', 'squid'],
  dropbear: ['dropbear', 'dropbear-bin'],
  ssh: ['ssh', 'openssh-client'],
};

/** True inside the wrapper's network namespace: no packet leaves, and addresses outside 127/8 are ours. */
export const inNamespace: boolean = process.env['SHOAL_INTEROP_NAMESPACE'] === '1';

/** A process in the namespace at the other end of the local network; '': there is none. */
export const lanPid: string = process.env['SHOAL_INTEROP_LAN'] ?? '';

const known = new Map<Need, string | null>();

/** Why `need` cannot be used, or null. */
export function whyNot(need: Need): string | null {
  let reason = known.get(need);
  if (reason === undefined) {
    reason = look(need);
    known.set(need, reason);
  }
  return reason;
}

function look(need: Need): string | null {
  if (need === 'transmission' && !inNamespace) {
    return 'transmission ignores peers in 127/8, and there is no network namespace (scripts/interop.mjs makes one)';
  }
  if (need === 'namespace') {
    if (!inNamespace) return 'there is no network namespace (scripts/interop.mjs makes one)';
    const found = existsSync(PYTHON) && spawnSync(PYTHON, ['-c', '']).status === 0;
    return found ? null : 'python3 is not installed';
  }
  if (need === 'lan') return lanPid === '' ? 'there is no local network (scripts/interop.mjs makes one)' : null;
  if (need === 'libtorrent') {
    const found = existsSync(PYTHON) && spawnSync(PYTHON, ['-c', 'import libtorrent']).status === 0;
    return found ? null : 'python3-libtorrent is not installed';
  }
  if (need === 'webtorrent') {
    const failure = process.env['SHOAL_INTEROP_NO_WEBTORRENT'];
    if (failure !== undefined && failure !== '') return `webtorrent could not be installed: ${failure}`;
    const found = existsSync(join(WEBTORRENT, 'node_modules/webtorrent/package.json'));
    return found ? null : 'webtorrent is not installed; scripts/interop.mjs does it';
  }
  const [program, debianPackage] = PROGRAMS[need]!;
  return onPath(program) ? null : `${debianPackage} is not installed`;
}

function onPath(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
