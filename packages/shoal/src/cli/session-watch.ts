/** What a run tells about its session as a whole, beside its torrents: where it listens, and how it is reached. */

import type { Session } from '@shoal/engine';
import { sanitize } from './format.ts';
import type { TransferView } from './view.ts';

export class SessionWatch {
  readonly #session: Session;
  readonly #view: TransferView;
  /** Port by address, as told. Null: nothing was yet. */
  #listening: Map<string, number> | null = null;
  #mapped = '';

  constructor(session: Session, view: TransferView) {
    this.#session = session;
    this.#view = view;
    void this.#follow();
  }

  /** It listens, wherever it could. */
  listening(): void {
    this.#listening ??= new Map();
    for (const address of this.#session.addresses) this.#listensAt(address);
  }

  /** Called several times a second. */
  tick(): void {
    const mapping = this.#session.portMapping().find(({ externalPort }) => externalPort !== null);
    if (mapping === undefined) return;
    const { externalIp, externalPort, method } = mapping;
    const text = `${externalIp} ${externalPort} ${method}`;
    if (text === this.#mapped) return;
    this.#mapped = text;
    this.#view.mapped(externalIp, externalPort!, method);
  }

  /** Until the session is closed. */
  async #follow(): Promise<void> {
    for await (const event of this.#session.events()) {
      if (event.type === 'notice') this.#view.note(sanitize(event.message));
      else if (event.type === 'warning') this.#view.note(`${this.#nameOf(event.infoHash)}: ${sanitize(event.message)}`);
      else if (event.type === 'listening' && this.#listening !== null) this.#listensAt(event.address);
    }
  }

  /** The session tells of an address also when it was asked before. */
  #listensAt({ ip, port }: Session['addresses'][number]): void {
    if (this.#listening!.get(ip) === port) return;
    this.#listening!.set(ip, port);
    this.#view.listening(ip, port);
  }

  #nameOf(infoHash: string): string {
    const torrent = this.#session.torrents.find((one) => (one.infoHash ?? one.infoHashV2) === infoHash);
    return sanitize(torrent?.name || infoHash);
  }
}
