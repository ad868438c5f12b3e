/**
 * Follows a file that holds the port a VPN forwards (as gluetun and its like write it): a number on its first line. Looked
 * at again and again; what makes no sense is reported once, and the port stays.
 */

import { utf8Decode } from '../base/bytes.ts';
import { ShoalError } from '../base/errors.ts';
import type { SessionCore } from './core.ts';

const LOOK_MS = 2_000;
/** A port and some space; whoever writes more means something else. */
const MAX_BYTES = 256;

/** Reads the beginning of a file. Rejects where it cannot be read. */
export type ReadHead = (path: string, maxBytes: number) => Promise<Uint8Array>;

export class PortFile {
  readonly #core: SessionCore;
  readonly #path: string;
  readonly #read: ReadHead;
  readonly #notice: (message: string) => void;
  #said = '';
  #stopped = false;

  constructor(core: SessionCore, path: string, read: ReadHead, notice: (message: string) => void) {
    this.#core = core;
    this.#path = path;
    this.#read = read;
    this.#notice = notice;
  }

  /** Looks now, and from now on. Never rejects. */
  async follow(): Promise<void> {
    try {
      const port = parsePortFile(await this.#read(this.#path, MAX_BYTES));
      if (this.#stopped) return;
      // empty: it is being written
      if (port !== null) {
        this.#core.setPort(port);
        this.#said = '';
      }
    } catch (error) {
      if (this.#stopped) return;
      this.#say(error instanceof ShoalError ? error.message : 'cannot be read');
    }
    this.#core.alarm(LOOK_MS, () => void this.follow());
  }

  stop(): void {
    this.#stopped = true;
  }

  #say(why: string): void {
    if (why === this.#said) return;
    this.#said = why;
    this.#notice(`the port file ${this.#path} ${why}; the port stays as it is`);
  }
}

/** Null: it is empty. Throws ShoalError 'bad-option' for anything but a port. */
export function parsePortFile(bytes: Uint8Array): number | null {
  const [line = ''] = utf8Decode(bytes).trim().split(/\s*\n/, 1);
  if (line === '') return null;
  const port = /^[0-9]{1,5}$/.test(line) ? Number(line) : 0;
  if (port < 1 || port > 65535) throw new ShoalError('bad-option', 'holds no port');
  return port;
}
