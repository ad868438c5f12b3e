/** What a run tells about its session as a whole, beside its torrents: where it listens, and how it is reached. */

import type { Session } from '@shoal/engine';
import { sanitize } from './format.ts';
import type { TransferView } from './view.ts';

export class SessionWatch {
  readonly #session: Session;
  readonly #view: TransferView;
  #listening = false;
  #mapped = '';

  constructor(session: Session, view: TransferView) {
    this.#session = session;
    this.#view = view;
    void this.#follow();
  }

  /** It listens, wherever it could. */
  listening(): void {
    for (const { ip, port } of this.#session.addresses) this.#view.listening(ip, port);
    this.#listening = true;
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
      else if (event.type === 'listening' && this.#listening)
        this.#view.listening(event.address.ip, event.address.port);
    }
  }
}
