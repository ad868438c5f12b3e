/**
 * Which traffic goes through a proxy, which is off beside one, and which may go directly: one table, which the session
 * asks before it opens anything and the host asks again at its gate. Nothing else decides that.
 *
 * Invariant: what the switches put behind the proxy goes through it or not at all (BEP 37). UDP goes by SOCKS5 alone;
 * what cannot come or be of use through a proxy (connections that come in, the local network, a router's ports) is off.
 */

export type ProxyKind = 'socks4' | 'socks5' | 'http';

export interface ProxySettings {
  /** SOCKS4 names hosts by its extension 4a. */
  readonly kind: ProxyKind;
  /** Name or address of the proxy itself; a name is looked up here, the one look-up there is. */
  readonly host: string;
  readonly port: number;
  readonly user: string | null;
  readonly password: string | null;
  /** Peers go through it, and all that finds them but trackers. */
  readonly peers: boolean;
  /** Trackers go through it. */
  readonly trackers: boolean;
}

export type Traffic =
  | 'peer-tcp'
  | 'peer-utp'
  | 'dht'
  /** Names of peers and of nodes of the DHT. */
  | 'peer-name'
  | 'udp-tracker'
  | 'http-tracker'
  | 'tracker-name'
  | 'web-seed'
  /** What a user names by URL: a .torrent. */
  | 'fetch'
  | 'lsd'
  | 'port-map'
  | 'incoming';

/** 'off': not at all. */
export type Way = 'direct' | 'proxy' | 'off';

interface Rule {
  /** The switch that puts it behind the proxy; 'always': no switch lets it out. */
  readonly by: 'peers' | 'trackers' | 'always';
  readonly socks5: Way;
  readonly socks4: Way;
  readonly http: Way;
}

const TABLE: Readonly<Record<Traffic, Rule>> = {
  'peer-tcp': { by: 'peers', socks5: 'proxy', socks4: 'proxy', http: 'proxy' },
  'peer-utp': { by: 'peers', socks5: 'proxy', socks4: 'off', http: 'off' },
  dht: { by: 'peers', socks5: 'proxy', socks4: 'off', http: 'off' },
  'peer-name': { by: 'peers', socks5: 'proxy', socks4: 'proxy', http: 'proxy' },
  'udp-tracker': { by: 'trackers', socks5: 'proxy', socks4: 'off', http: 'off' },
  'http-tracker': { by: 'trackers', socks5: 'proxy', socks4: 'proxy', http: 'proxy' },
  'tracker-name': { by: 'trackers', socks5: 'proxy', socks4: 'proxy', http: 'proxy' },
  'web-seed': { by: 'peers', socks5: 'proxy', socks4: 'proxy', http: 'proxy' },
  fetch: { by: 'always', socks5: 'proxy', socks4: 'proxy', http: 'proxy' },
  lsd: { by: 'peers', socks5: 'off', socks4: 'off', http: 'off' },
  'port-map': { by: 'peers', socks5: 'off', socks4: 'off', http: 'off' },
  incoming: { by: 'peers', socks5: 'off', socks4: 'off', http: 'off' },
};

export function wayOf(traffic: Traffic, proxy: ProxySettings | null): Way {
  if (proxy === null) return 'direct';
  const rule = TABLE[traffic];
  const isBehind = rule.by === 'always' || (rule.by === 'peers' ? proxy.peers : proxy.trackers);
  return isBehind ? rule[proxy.kind] : 'direct';
}

/** For logs and faults: never with user and password. */
export function proxyLabel({ kind, host, port }: ProxySettings): string {
  const name = kind === 'http' ? 'HTTP' : kind.toUpperCase();
  return `the ${name} proxy ${host.includes(':') ? `[${host}]` : host}:${port}`;
}
