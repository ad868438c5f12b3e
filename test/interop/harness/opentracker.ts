/** A real opentracker that knows the given info-hashes alone (Debian's build takes a whitelist and nothing else). */

import { chmodSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Program } from './program.ts';
import { until } from './wait.ts';

export class Opentracker {
  readonly url: string;
  readonly #place: { readonly ip: string; readonly port: number; readonly home: string };
  #program: Program | null = null;

  constructor(place: { readonly ip: string; readonly port: number; readonly home: string }) {
    this.#place = place;
    this.url = `http://${place.ip}:${place.port}/announce`;
  }

  async start(infoHashes: readonly string[]): Promise<void> {
    const { ip, port, home } = this.#place;
    writeFileSync(join(home, 'whitelist'), infoHashes.map((hash) => `${hash}\n`).join(''));
    // it gives up root and goes into its folder
    chmodSync(home, 0o755);
    const args = ['-i', ip, '-p', `${port}`, '-P', `${port}`, '-u', 'nobody', '-d', home, '-w', 'whitelist'];
    this.#program = new Program('opentracker', args, { home });
    await until('opentracker listens', () => canConnect(ip, port), { timeoutMs: 10_000, detail: () => this.tail() });
  }

  /** Peers of a swarm: complete and incomplete. */
  async scrape(infoHash: string): Promise<{ complete: number; incomplete: number } | null> {
    const hash = infoHash.replace(/../g, (byte) => `%${byte}`);
    const response = await fetch(`${this.url.replace(/announce$/, 'scrape')}?info_hash=${hash}`);
    const text = Buffer.from(await response.arrayBuffer()).toString('latin1');
    const match = /8:completei(\d+)e.*10:incompletei(\d+)e/s.exec(text);
    return match === null ? null : { complete: Number(match[1]), incomplete: Number(match[2]) };
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  tail(): string {
    return this.#program?.tail() ?? '';
  }
}

function canConnect(ip: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, ip);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
