/** Shares out the descriptors this process may have (`ulimit -n`) where they are few: files, connections, the rest. */

import { readdirSync, readFileSync } from 'node:fs';

/** What threads, state files, folders being walked and announces take, besides what is open already. */
const OWN = 28;

/** How many descriptors the process may have open. */
function softLimit(): number {
  try {
    const text = readFileSync('/proc/self/limits', 'latin1');
    const soft = /^Max open files\s+(\d+)/m.exec(text)?.[1];
    // no number: unlimited
    if (soft !== undefined) return Number(soft);
    return 1 << 20;
  } catch {
    // no /proc: the usual default
    return 1024;
  }
}

function openCount(): number {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return 24;
  }
}

/** Files of torrents kept open at once: a quarter of what is left, at most 256. */
export function openLimit(): number {
  return Math.max(4, Math.min(256, Math.floor((softLimit() - 32) / 4)));
}

/** Connections of peers at once: what the files and their folders leave. */
export function connectionLimit(): number {
  return Math.max(4, softLimit() - openCount() - OWN - Math.floor(openLimit() * 1.125));
}
