/** The Net port of the real machine: TCP, UDP, names and interfaces, each from its own file. */

import { isIP } from 'node:net';
import type { IoFault } from '../base/errors.ts';
import type {
  AddressFilter,
  Conn,
  ConnSink,
  Endpoint,
  Listener,
  ListenSink,
  Net,
  NetGateway,
  NetInterface,
  UdpOptions,
  UdpSink,
  UdpSocket,
} from '../base/ports.ts';
import type { ProxySettings } from '../base/proxy.ts';
import { Egress } from './egress.ts';
import { faultOf } from './fault.ts';
import { hostGateways } from './gateways.ts';
import { ProxyServer } from './proxy-server.ts';
import { NameResolver } from './resolver.ts';
import { TcpNet } from './tcp.ts';
import { hostInterfaces, UdpSockets } from './udp.ts';

export class HostNet implements Net {
  readonly #tcp: TcpNet;
  readonly #udp: UdpSockets;
  readonly #names: NameResolver;
  /** Asked by HTTP too. */
  readonly egress: Egress = new Egress();
  readonly proxyServer: ProxyServer = new ProxyServer((host, done) => this.#names.resolve(host, done));

  /** `receive`: where all connections read into. `maxIncoming`: no more are taken than let the total be this. */
  constructor(receive: Uint8Array, maxIncoming: number = Number.POSITIVE_INFINITY) {
    this.#tcp = new TcpNet(receive, this.egress, maxIncoming, this.proxyServer);
    this.#udp = new UdpSockets(this.egress, this.proxyServer);
    this.#names = new NameResolver(this.egress);
  }

  listen(local: Endpoint, sink: ListenSink): Listener {
    return this.#tcp.listen(local, sink);
  }

  setEgress(addresses: readonly string[]): void {
    this.egress.set(addresses);
  }

  setFilter(filter: AddressFilter): void {
    this.egress.setFilter(filter);
  }

  setProxy(proxy: ProxySettings | null): void {
    this.egress.setProxy(proxy);
  }

  connect(remote: Endpoint, sink: ConnSink): Conn {
    return this.#tcp.connect(remote, sink);
  }

  resolve(
    host: string,
    done: (fault: IoFault | null, ips: readonly string[]) => void,
    use: 'peers' | 'trackers' = 'peers',
  ): void {
    const way = this.egress.wayOf(use === 'peers' ? 'peer-name' : 'tracker-name');
    const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
    if (way === 'direct' || isIP(bare) !== 0) return this.#names.resolve(host, done);
    const ip = way === 'proxy' ? this.proxyServer.names.addressOf(bare) : null;
    setImmediate(() => {
      if (ip !== null) done(null, [ip]);
      else done(faultOf(this.egress.closedBy('more names'), `resolve ${bare.slice(0, 100)}`), []);
    });
  }

  /** By this machine's name servers, whatever it is for: of those who ask the gate themselves. */
  resolveHere(host: string, done: (fault: IoFault | null, ips: readonly string[]) => void): void {
    this.#names.resolve(host, done);
  }

  udp(local: Endpoint, options: UdpOptions, sink: UdpSink): UdpSocket {
    return this.#udp.open(local, options, sink);
  }

  interfaces(): readonly NetInterface[] {
    return hostInterfaces();
  }

  gateways(): readonly NetGateway[] {
    return hostGateways();
  }

  /** Open connections. */
  get connCount(): number {
    return this.#tcp.connCount;
  }

  /** Ends all connections, listeners and sockets; done after the last handle is gone. */
  close(done: () => void): void {
    this.#names.close();
    this.#udp.close();
    const wait = (): void => {
      if (this.#udp.count === 0) done();
      else setImmediate(wait);
    };
    this.#tcp.close(wait);
  }
}
