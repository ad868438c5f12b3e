/** A machine of the packet network that runs one real `Dht`, wakes it in time, and carries its packets. */

import { parseIp } from '../src/base/ip.ts';
import { PlatformCrypto } from '../src/base/platform-crypto.ts';
import { Rng } from '../src/base/random.ts';
import { Dht } from '../src/discovery/dht.ts';
import { ExternalIp } from '../src/discovery/external-ip.ts';
import type { DhtHost, DhtNatKind, DhtNet } from './dht-net.ts';
import type { EventTarget } from './event-queue.ts';

export interface DhtMachineOptions {
  readonly ip?: string;
  readonly port?: number;
  readonly nat?: DhtNatKind;
  readonly latencyMs?: number;
  readonly readOnly?: boolean;
  readonly uploadRateBps?: number;
  /** The default caps of a client are high; a simulated one stays small. */
  readonly maxHashes?: number;
}

const crypto = new PlatformCrypto();
const VERSION = Uint8Array.of(83, 105, 0, 1);

export class DhtMachine implements DhtHost, EventTarget {
  readonly net: DhtNet;
  readonly ip: string;
  readonly ipBytes: Uint8Array;
  readonly port: number;
  readonly nat: DhtNatKind;
  readonly latencyMs: number;
  readonly dht: Dht;
  readonly bornAt: number;
  isAlive = true;
  /** Its first bootstrap is done. */
  isReady = false;
  #armedAt = Infinity;
  #armed = 0;

  constructor(net: DhtNet, options: DhtMachineOptions = {}) {
    const { rng } = net;
    this.net = net;
    this.ip = options.ip ?? net.freshIp();
    this.ipBytes = parseIp(this.ip)!;
    this.port = options.port ?? 1024 + rng.below(64_000);
    this.nat = options.nat ?? 'none';
    this.latencyMs = options.latencyMs ?? 5 + rng.below(70);
    this.bornAt = net.now;
    const own = new Rng(Uint32Array.of(rng.u32(), rng.u32(), rng.u32(), rng.u32()));
    this.dht = new Dht({
      rng: own,
      crypto,
      external: new ExternalIp(),
      sink: {
        onDhtSend: (bytes, ip, port) => {
          if (this.isAlive) net.send(this, bytes, ip, port);
          return true;
        },
        onDhtReady: () => {
          this.isReady = true;
        },
      },
      readOnly: options.readOnly ?? false,
      version: VERSION,
      uploadRateBps: options.uploadRateBps ?? 8000,
      maxHashes: options.maxHashes ?? 2000,
      maxPeersPerHash: 500,
      maxItems: 700,
    });
    net.add(this);
  }

  /** Begins; `bootstrap`: addresses of routers. */
  start(bootstrap: readonly DhtHost[]): void {
    for (const host of bootstrap) this.dht.addRouter(this.net.now, host.ip, host.port);
    this.dht.start(this.net.now, { v4: true, v6: false });
    this.arm();
  }

  /** Gone without a word. */
  die(): void {
    this.isAlive = false;
    this.net.remove(this);
  }

  receive(bytes: Uint8Array, ip: string, port: number): void {
    this.dht.datagram(this.net.now, bytes, ip, port);
    this.arm();
  }

  onEvent(_kind: number, arg: number): void {
    if (!this.isAlive || arg !== this.#armed) return;
    this.#armedAt = Infinity;
    this.dht.tick(this.net.now);
    this.arm();
  }

  /** Call after every command. */
  arm(): void {
    const at = this.dht.nextAt();
    if (at >= this.#armedAt) return;
    this.#armedAt = at;
    // never twice at one instant, whatever the machine asks for
    this.net.queue.push(Math.max(at, this.net.now + 1), this, 0, ++this.#armed);
  }
}
