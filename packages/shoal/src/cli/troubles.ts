/**
 * What stood in the way, for who hears that no peer was found: the session's log tells how connections ended, trackers
 * tell what they have against us. One sentence of each is enough to know where to look.
 */

import type { SessionOptions, Torrent } from '@shoal/engine';
import { sanitize } from './format.ts';

/** A proxy that turns all away says the same each time, but for the address. */
const MAX_NOTES = 3;
const MAX_TRACKERS = 2;
/** What a proxy that works says of a peer that does not. */
const OF_ONE_PEER = /was refused the connection|finds no way|got no answer|kind of address|answers \d/;
/** Of a port or an address that was asked for and cannot be had; another port may serve instead. */
const OUR_PORT = /the address is in use|does not have that address/;

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
    return { ...options, log: (line) => this.#heard(line) };
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

  #heard(line: string): void {
    const [, peer = '', end = ''] = /^peer (\S+) closed: (.*)$/s.exec(line) ?? [];
    const why = peer === '' ? (/^(?:udp|dht): (.*)$/s.exec(line)?.[1] ?? '') : end;
    if (/\bthe \S+ proxy /.test(why) && !OF_ONE_PEER.test(why))
      this.#proxy = this.#note(why.replace(/ \([^()]*\)$/, ''));
    else if (line.startsWith('udp: ') && OUR_PORT.test(why)) this.#port = this.#note(why);
    else if (peer !== '' && !/^fault \d+$/.test(why)) this.#peer = why.includes(peer) ? why : `${peer}: ${why}`;
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
