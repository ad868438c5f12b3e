/**
 * A home network with a real miniupnpd, and a machine outside:
 *
 *     client 10.99.0.2 --lan--> router 10.99.0.1 | 10.98.0.1 --wan--> outside 10.98.0.2
 *
 * The router translates what leaves, and lets nothing in but what is mapped. It says that its outer address is LABEL, since
 * it refuses to map for a private one; nothing is ever sent there.
 */

import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Arena } from './arena.ts';
import { SHOAL, type ShoalLine } from './clients/shoal.ts';
import type { Program } from './program.ts';
import { cable, Room } from './rooms.ts';
import { until } from './wait.ts';

const run = promisify(execFile);

export const ROUTER = '10.99.0.1';
export const CLIENT = '10.99.0.2';
export const OTHER = '10.99.0.3';
export const OUTER = '10.98.0.1';
export const LABEL = '93.184.216.34';

const RULES = `
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" accept
    jump miniupnpd
  }
  chain miniupnpd {
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump prerouting_miniupnpd
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    jump postrouting_miniupnpd
    oifname "wan" masquerade
  }
  chain prerouting_miniupnpd {
  }
  chain postrouting_miniupnpd {
  }
}
`;

/** Of the client and the machine outside, where there is IPv6; the router only filters. */
export const CLIENT6 = '2001:db8:99::2';

export interface RouterOptions {
  readonly ipv6?: boolean;
  readonly natPmp?: boolean;
  readonly upnp?: boolean;
  /** Seconds that a mapping lasts at most. */
  readonly leaseS?: number;
}

/** A command that says JSON lines. */
export interface Talker {
  readonly program: Program;
  readonly lines: ShoalLine[];
}

export class NatRooms {
  readonly client: Room;
  readonly router: Room;
  readonly outside: Room;
  readonly #folder: string;
  #daemon: Program | null = null;

  private constructor(rooms: readonly Room[], folder: string) {
    [this.client, this.router, this.outside] = rooms as [Room, Room, Room];
    this.#folder = folder;
  }

  static async make(arena: Arena, options: RouterOptions = {}): Promise<NatRooms> {
    const folder = arena.makeFolder('rooms');
    const rooms: Room[] = [];
    for (const name of ['client', 'router', 'outside']) {
      const room = await Room.make(name, folder);
      arena.keep({ name, stop: () => room.end(), tail: () => room.tail() });
      rooms.push(room);
    }
    const [client, router, outside] = rooms as [Room, Room, Room];
    cable(
      { room: client, device: 'eth', address: `${CLIENT}/24` },
      { room: router, device: 'lan', address: `${ROUTER}/24` },
    );
    cable(
      { room: router, device: 'wan', address: `${OUTER}/24` },
      { room: outside, device: 'eth', address: '10.98.0.2/24' },
    );
    client.ip('addr', 'add', `${OTHER}/24`, 'dev', 'eth');
    client.ip('route', 'add', 'default', 'via', ROUTER, 'src', CLIENT);
    const made = new NatRooms(rooms, folder);
    if (options.ipv6 === true) await made.#addIpv6();
    made.#run('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    await made.boot(options);
    return made;
  }

  /** Starts the router's daemon, with an empty table. */
  async boot({ natPmp = true, upnp = true, leaseS = 86_400 }: RouterOptions = {}): Promise<void> {
    await this.#daemon?.stop('SIGKILL');
    writeFileSync(`${this.#folder}/rules`, `flush ruleset\n${RULES}`);
    this.#run('nft', '-f', `${this.#folder}/rules`);
    writeFileSync(
      `${this.#folder}/miniupnpd.conf`,
      [
        'ext_ifname=wan',
        `ext_ip=${LABEL}`,
        'listening_ip=lan',
        'port=5000',
        `enable_natpmp=${natPmp ? 'yes' : 'no'}`,
        `enable_upnp=${upnp ? 'yes' : 'no'}`,
        'secure_mode=yes',
        `min_lifetime=${Math.min(leaseS - 1, 120)}`,
        `max_lifetime=${leaseS}`,
        'uuid=00000000-0000-0000-0000-000000000001',
        'allow 1024-65535 10.99.0.0/24 1024-65535',
        'deny 0-65535 0.0.0.0/0 0-65535',
        '',
      ].join('\n'),
    );
    const args = ['-d', '-f', `${this.#folder}/miniupnpd.conf`, '-P', `${this.#folder}/miniupnpd-${Date.now()}.pid`];
    const daemon = this.router.start('miniupnpd', args);
    this.#daemon = daemon;
    await until('miniupnpd listens', () => /Listening for NAT-PMP|HTTP listening/.test(daemon.tail()), {
      timeoutMs: 20_000,
      detail: () => daemon.tail(),
    });
  }

  /** What is mapped: "tcp 6881 10.99.0.2:6881". */
  mappings(): string[] {
    const rules = this.#run('nft', 'list', 'chain', 'inet', 'filter', 'prerouting_miniupnpd');
    // the protocol by its number, as miniupnpd writes the rule
    const found = rules.matchAll(/@nh,72,8 (0x6|0x11) th dport (\d+) dnat ip to ([\d.]+:\d+)/g);
    return [...found]
      .map(([, protocol, port, target]) => `${protocol === '0x6' ? 'tcp' : 'udp'} ${port} ${target}`)
      .sort();
  }

  /** A session of the library at the client; ends on SIGTERM. */
  session(options: object): Talker {
    const script = fileURLToPath(new URL('./port-map-session.mjs', import.meta.url));
    return this.#talker(this.client, [script, JSON.stringify(options)]);
  }

  /** The command line, at the client or outside. */
  shoal(room: Room, ...args: readonly string[]): Talker {
    const state = `${this.#folder}/state-${room.name}`;
    mkdirSync(state, { recursive: true });
    return this.#talker(room, [SHOAL, ...args, '--json']);
  }

  /** What is let in over IPv6: "tcp 6881". */
  openings(): string[] {
    const rules = this.#run('nft', 'list', 'chain', 'inet', 'filter', 'miniupnpd');
    const found = rules.matchAll(/th dport (\d+) @nh,192,128 0x20010db8009900000000000000000002 @nh,48,8 (0x6|0x11)/g);
    return [...found].map(([, port, protocol]) => `${protocol === '0x6' ? 'tcp' : 'udp'} ${port}`).sort();
  }

  /** How a port, by default of the router's outer address, answers to a machine outside: "tcp udp", or less. */
  async knock(port: number, ip: string = OUTER): Promise<string> {
    const script = fileURLToPath(new URL('./nat-knock.mjs', import.meta.url));
    const [command, ...rest] = [...this.outside.enter, process.execPath, script, ip, `${port}`];
    // what stays closed takes seconds: other tests go on meanwhile
    return (await run(command!, rest, { encoding: 'utf8', timeout: 30_000 })).stdout.trim();
  }

  tail(): string {
    return this.#daemon?.tail() ?? '';
  }

  async #addIpv6(): Promise<void> {
    const { client, router, outside } = this;
    router.ip('addr', 'add', '2001:db8:99::1/64', 'dev', 'lan', 'nodad');
    router.ip('addr', 'add', '2001:db8:98::1/64', 'dev', 'wan', 'nodad');
    this.#run('sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding');
    client.ip('addr', 'add', `${CLIENT6}/64`, 'dev', 'eth', 'nodad');
    outside.ip('addr', 'add', '2001:db8:98::2/64', 'dev', 'eth', 'nodad');
    outside.ip('route', 'add', '2001:db8:99::/64', 'via', '2001:db8:98::1');
    const linkLocal = (): string | undefined => {
      return /inet6 (fe80\S+)\/64/.exec(this.#run('ip', '-6', 'addr', 'show', 'dev', 'lan', '-tentative'))?.[1];
    };
    const ip = await until('the router has its link-local address', linkLocal, { timeoutMs: 10_000 });
    client.ip('route', 'add', 'default', 'via', ip, 'dev', 'eth');
  }

  #talker(room: Room, args: readonly string[]): Talker {
    const lines: ShoalLine[] = [];
    const onLine = (text: string): void => void lines.push(JSON.parse(text) as ShoalLine);
    return { program: room.start(process.execPath, args, { onLine }), lines };
  }

  #run(...command: readonly string[]): string {
    const [first, ...rest] = [...this.router.enter, ...command];
    const { status, stdout, stderr } = spawnSync(first!, rest, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
    return stdout;
  }
}
