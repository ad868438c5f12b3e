/**
 * What stood in the way, for who hears that no peer was found: the session tells how connections ended, trackers tell what
 * they have against us. One sentence of each is enough to know where to look.
 */

import type { SessionOptions, SessionTrouble, Torrent } from '@shoal/engine';
import { sanitize } from './format.ts';

/** A proxy that turns all away says the same each time, but for the address. */
const MAX_NOTES = 3;
const MAX_TRACKERS = 2;
/** Of a port or an address that was asked for and cannot be had; another port may serve instead. */
const OUR_PORT: readonly string[] = ['EADDRINUSE', 'EADDRNOTAVAIL'];

export class Troubles {
  readonly #onTrouble: (text: string) => void;
  readonly #said = new Set<string>();
  #peer = '';
  #proxy = '';
  #port = '';

  /** `onTrouble`: hears once of each thing that a proxy, or this machine, has against us. */
  constructor(onTrouble: (text: string) => void = () => {}) {
    this.#onTrouble = onTrouble;
  }

  /** The session's options, listened to. */
  hear(options: SessionOptions): SessionOptions {
    return { ...options, log: (_line, trouble) => trouble !== null && this.#heard(trouble) };
  }

  /** '; and why', or nothing: to be put behind "no peer within ...". */
  of(torrent: Torrent | null): string {
    const trackers = (torrent?.trackers() ?? []).filter(
      ({ status, message }) => status === 'failed' && message !== null,
    );
    const told = trackers.slice(0, MAX_TRACKERS).map(({ url, message }) => `${withoutSecrets(url)}: ${message}`);
    const last = this.#proxy || this.#port || this.#peer;
    return [...told, ...(last === '' ? [] : [last])].map((text) => `; ${sanitize(text)}`).join('');
  }

  #heard({ of, peer, fault: { code, message } }: SessionTrouble): void {
    if (code.startsWith('EPROXY')) this.#proxy = this.#note(message.replace(/ \([^()]*\)$/, ''));
    else if (of === 'udp' && OUR_PORT.includes(code)) this.#port = this.#note(message);
    else if (peer !== null) this.#peer = message.includes(peer) ? message : `${peer}: ${message}`;
  }

  #note(why: string): string {
    if (!this.#said.has(why) && this.#said.size < MAX_NOTES) {
      this.#said.add(why);
      this.#onTrouble(sanitize(why));
    }
    return why;
  }
}

/** Announce addresses hold passkeys, which nobody wants in a bug report. */
function withoutSecrets(url: string): string {
  const { protocol, host } = URL.canParse(url) ? new URL(url) : { protocol: '', host: url };
  return `tracker ${protocol}//${host}`;
}
