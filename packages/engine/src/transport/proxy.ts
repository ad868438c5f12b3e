/** The machine that talks a proxy of whichever kind into a connection. */

import type { ProxySettings } from '../base/proxy.ts';
import type { ProxyDialogue, ProxyTarget } from './proxy-dialogue.ts';
import { ConnectDialogue } from './proxy-http.ts';
import { Socks4Dialogue } from './proxy-socks4.ts';
import { type ProxyUser, Socks5Dialogue } from './proxy-socks5.ts';

/** A TCP connection to `target`, which is a name wherever a name is what is known. */
export function dialogueWith(proxy: ProxySettings, target: ProxyTarget): ProxyDialogue {
  switch (proxy.kind) {
    case 'socks4':
      return new Socks4Dialogue(target, proxy.user);
    case 'socks5':
      return new Socks5Dialogue(target, userOf(proxy));
    case 'http':
      return new ConnectDialogue(target, userOf(proxy));
  }
}

/** A SOCKS5 proxy's relay for datagrams; it is there for as long as the connection. */
export function udpDialogueWith(proxy: ProxySettings): ProxyDialogue {
  return new Socks5Dialogue(null, userOf(proxy));
}

export function userOf({ user, password }: ProxySettings): ProxyUser | null {
  return user === null ? null : { user, password: password ?? '' };
}
