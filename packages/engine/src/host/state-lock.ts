/**
 * Keeps two sessions out of one state folder. What decides is a name that the kernel frees when its process dies, however
 * it dies: an abstract socket (Linux) or a named pipe (Windows) made of the folder's device and inode. A file `lock`
 * beside it names the holder for people, and holds off a process in another network namespace, where the socket is not
 * seen: it counts while the process that it names runs (same boot, pid and start time).
 *
 * Invariant: only who has the socket touches the file; so taking over a dead holder's file is no race.
 */

import { createHash } from 'node:crypto';
import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import type { IoFault } from '../base/errors.ts';
import { errorCode, fault, faultOf } from './fault.ts';

export class StateLock {
  readonly #folder: string;
  #server: net.Server | null = null;
  #held = false;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The folder must exist. */
  take(done: (fault: IoFault | null) => void): void {
    const name = this.#socketName();
    if (name === null) {
      setImmediate(() => done(this.#takeFile()));
      return;
    }
    const server = net.createServer((socket) => socket.destroy());
    server.unref();
    server.once('error', (error) => {
      done(errorCode(error) === 'EADDRINUSE' ? this.#lockedBy(this.#holder()) : this.#takeFile());
    });
    server.listen(name, () => {
      this.#server = server;
      const why = this.#takeFile();
      if (why === null) done(null);
      else this.release(() => done(why));
    });
  }

  release(done: () => void): void {
    if (this.#held) {
      this.#held = false;
      try {
        unlinkSync(this.#path());
      } catch {
        // gone already
      }
    }
    const server = this.#server;
    this.#server = null;
    if (server === null) setImmediate(done);
    else server.close(() => done());
  }

  #path(): string {
    return `${this.#folder}/lock`;
  }

  #socketName(): string | null {
    try {
      const stat = statSync(this.#folder, { bigint: true });
      const id = createHash('sha256').update(`${stat.dev}:${stat.ino}`).digest('hex').slice(0, 32);
      if (process.platform === 'linux') return `\0shoal-state-${id}`;
      if (process.platform === 'win32') return `\\\\.\\pipe\\shoal-state-${id}`;
    } catch {
      // the file will say what is wrong
    }
    return null;
  }

  #takeFile(): IoFault | null {
    try {
      const holder = this.#holder();
      if (holder !== null && isAlive(holder)) return this.#lockedBy(holder);
      writeFileSync(this.#path(), JSON.stringify(myself()), { mode: 0o600 });
      this.#held = true;
      return null;
    } catch (error) {
      return faultOf(error, `lock the state folder ${this.#folder}`);
    }
  }

  #holder(): Holder | null {
    try {
      const read: unknown = JSON.parse(readFileSync(this.#path(), 'utf8'));
      if (typeof read !== 'object' || read === null) return null;
      const { pid, started, boot } = read as Record<string, unknown>;
      return typeof pid === 'number' ? { pid, started: String(started), boot: String(boot) } : null;
    } catch {
      return null;
    }
  }

  #lockedBy(holder: Holder | null): IoFault {
    const who = holder === null ? 'another process' : `process ${holder.pid}`;
    return fault('ELOCKED', `the state folder ${this.#folder} is in use by ${who}`);
  }
}

interface Holder {
  readonly pid: number;
  readonly started: string;
  readonly boot: string;
}

function myself(): Holder {
  return { pid: process.pid, started: startOf(process.pid), boot: bootOf() };
}

/** Runs the process that wrote this? This very process counts as no: its sockets tell its sessions apart. */
function isAlive(holder: Holder): boolean {
  if (holder.pid === process.pid) return false;
  if (holder.boot !== bootOf()) return false;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  return startOf(holder.pid) === holder.started;
}

/** When a process started, in clock ticks since boot, or '' where that cannot be known. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // the name in parentheses may hold anything
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function bootOf(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return '';
  }
}
