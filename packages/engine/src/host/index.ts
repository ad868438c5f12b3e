/** The ports on the real machine. Imported by the public face and by tests alone. */

import { availableParallelism } from 'node:os';
import { PlatformCrypto } from '../base/platform-crypto.ts';
import type { Ports } from '../base/ports.ts';
import { SLOT_STRIDE, SlotPool } from '../base/slot-pool.ts';
import { HostClock } from './clock.ts';
import { connectionLimit } from './descriptors.ts';
import { FileState } from './file-state.ts';
import { HostFiles } from './files.ts';
import { HashPool } from './hash-pool.ts';
import { HostHttp } from './http.ts';
import { HostLoop } from './loop.ts';
import { MemoryState } from './memory-state.ts';
import { HostNet } from './net.ts';
import { isPrivateAddress } from './private-address.ts';
import { HostRandom } from './random.ts';
import { makeSlotMemory } from './slot-memory.ts';
import { SplitState } from './split-state.ts';

export interface HostOptions {
  /** Bytes of slot memory, receive buffer included. Default 32 MiB; at least 1 MiB, at most 4 GiB. */
  readonly memory?: number;
  /** Threads that hash. Default: one per core, at most 8. */
  readonly hashThreads?: number;
  /** Folder for durable records; null (default): records last as long as the ports. */
  readonly state?: string | null;
  /** What another process is kept out of: the whole state folder (default), or each torrent in it that is in use here. */
  readonly stateLock?: 'folder' | 'torrent';
}

const DEFAULT_MEMORY = 32 << 20;
const MIN_MEMORY = 1 << 20;
const MAX_MEMORY = 2 ** 32;
/** One read takes at most this; larger ones leave the second-level cache before they are copied on. */
const RECEIVE_BYTES = 256 * 1024;

/** Nothing is opened, started or bound until it is used. Throws RangeError when the memory cannot be had. */
export function createHostPorts(options: HostOptions = {}): Ports {
  const bytes = Math.min(Math.max(options.memory ?? DEFAULT_MEMORY, MIN_MEMORY), MAX_MEMORY);
  const memory = makeSlotMemory(bytes);
  const count = Math.floor((bytes - RECEIVE_BYTES) / SLOT_STRIDE);
  const slots = new SlotPool(memory, RECEIVE_BYTES, count);
  const clock = new HostClock();
  const loop = new HostLoop(clock);
  const net = new HostNet(slots.receive, connectionLimit());
  const http = new HostHttp((host, done) => net.resolveHere(host, done), net.egress, isPrivateAddress, net.proxyServer);
  const files = new HostFiles(memory.buffer as SharedArrayBuffer);
  const hasher = new HashPool(slots, options.hashThreads ?? Math.min(availableParallelism(), 8));
  const folder = options.state ?? null;
  const split = options.stateLock === 'torrent';
  const state = folder === null ? new MemoryState() : split ? new SplitState(folder) : new FileState(folder);
  return {
    clock,
    loop,
    random: new HostRandom(),
    crypto: new PlatformCrypto(),
    net,
    http,
    files,
    hasher,
    state,
    slots,
    close: (done) => {
      loop.close();
      http.close();
      let waiting = 4;
      const one = (): void => {
        waiting -= 1;
        if (waiting === 0) done();
      };
      net.close(one);
      hasher.close(one);
      files.close(one);
      state.close(one);
    },
  };
}
