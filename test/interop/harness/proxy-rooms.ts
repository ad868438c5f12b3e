/**
 * A client that sees nothing but a proxy's machine, and a world behind it:
 *
 *     client 10.50.0.2 --wire--> proxy 10.50.0.1 | 10.60.0.1 --> world 10.60.1.1 (seed) .. 10.60.4.1
 *
 * The proxy's machine forwards nothing. The client's default route leads there, so that whatever would leave directly is
 * seen on the wire, look-ups of names too. `tracker.test`, `node.test` and `alias.test`, which is the tracker by a name that no
 * certificate has, are known to the proxy alone.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Arena } from './arena.ts';
import { SHOAL, type ShoalLine } from './clients/shoal.ts';
import type { Program } from './program.ts';
import { cable, Room, type Tally, WireTally } from './rooms.ts';
import type { MadeTorrent } from './torrent.ts';
import { until } from './wait.ts';

export const PROXY = '10.50.0.1';
export const CLIENT = '10.50.0.2';
const OUTER = '10.60.0.1';
const WORLD: readonly string[] = [1, 2, 3, 4].map((n) => `10.60.${n}.1`);
export const SEED_PORT = 6881;
const TRACKER_PORT = 6969;
export const SECURE_PORT = 6970;
/** Nobody is there; beyond the proxy's machine, so that what is sent there is seen. */
export const NAME_SERVER = '10.70.0.53';

export class ProxyRooms {
  readonly client: Room;
  readonly proxy: Room;
  readonly world: Room;
  readonly tally: WireTally;
  readonly #folder: string;
  #authority: string | null = null;

  private constructor(rooms: readonly Room[], folder: string) {
    [this.client, this.proxy, this.world] = rooms as [Room, Room, Room];
    this.tally = new WireTally(this.client, 'wire');
    this.#folder = folder;
  }

  static async make(arena: Arena): Promise<ProxyRooms> {
    const folder = arena.makeFolder('rooms');
    const rooms: Room[] = [];
    for (const name of ['client', 'proxy', 'world']) {
      const room = await Room.make(name, folder);
      arena.keep({ name, stop: () => room.end(), tail: () => room.tail() });
      rooms.push(room);
    }
    const [client, proxy, world] = rooms as [Room, Room, Room];
    cable(
      { room: client, device: 'wire', address: `${CLIENT}/24` },
      { room: proxy, device: 'inner', address: `${PROXY}/24` },
    );
    cable(
      { room: proxy, device: 'outer', address: `${OUTER}/16` },
      { room: world, device: 'wire', address: `${WORLD[0]}/16` },
    );
    for (const ip of WORLD.slice(1)) world.ip('addr', 'add', `${ip}/16`, 'dev', 'wire');
    client.ip('route', 'add', 'default', 'via', PROXY);
    // groups too are sent to there
    client.ip('route', 'add', '224.0.0.0/4', 'dev', 'wire');
    writeFileSync(
      `${folder}/hosts`,
      `127.0.0.1 localhost\n${WORLD[1]} tracker.test\n${WORLD[0]} node.test\n${WORLD[1]} alias.test\n`,
    );
    writeFileSync(`${folder}/client-hosts`, '127.0.0.1 localhost\n');
    writeFileSync(`${folder}/resolv`, `nameserver ${NAME_SERVER}\n`);
    const made = new ProxyRooms(rooms, folder);
    await made.tally.ready();
    return made;
  }

  /** SOCKS4 and 5 with datagrams, at port 1080. */
  async danted(): Promise<Program> {
    const conf = `${this.#folder}/danted.conf`;
    writeFileSync(
      conf,
      [
        'logoutput: stderr',
        `internal: ${PROXY} port = 1080`,
        `external: ${OUTER}`,
        'clientmethod: none',
        'socksmethod: none',
        'user.privileged: root',
        'user.unprivileged: nobody',
        'client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }',
        'socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: bind connect udpassociate }',
        'socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: bindreply udpreply }',
        '',
      ].join('\n'),
    );
    const program = this.proxy.start('danted', ['-f', conf, '-p', `${this.#folder}/danted.pid`], this.#proxyFiles);
    await this.#listens(this.proxy, PROXY, 1080);
    return program;
  }

  /** SOCKS5 with a user and a password, without datagrams, at port 1081. */
  async microsocks(user: string, password: string): Promise<Program> {
    const args = ['-i', PROXY, '-p', '1081', '-u', user, '-P', password];
    const program = this.proxy.start('microsocks', args, this.#proxyFiles);
    await this.#listens(this.proxy, PROXY, 1081);
    return program;
  }

  /** HTTP, with CONNECT to any port, at port 3128. */
  async squid(): Promise<Program> {
    const conf = `${this.#folder}/squid.conf`;
    writeFileSync(
      conf,
      [
        `http_port ${PROXY}:3128`,
        'http_access allow all',
        'cache deny all',
        'cache_mem 8 MB',
        'pinger_enable off',
        'shutdown_lifetime 0 seconds',
        'max_filedescriptors 1024',
        'pid_filename none',
        // it gives up root, and our folders are closed to others
        'cache_log /dev/null',
        'visible_hostname proxy.test',
        'dns_nameservers 127.0.0.1',
        'access_log none',
        'cache_store_log none',
        'logfile_rotate 0',
        'netdb_filename none',
        'hosts_file /etc/hosts',
        '',
      ].join('\n'),
    );
    const program = this.proxy.start('squid', ['-N', '-f', conf], this.#proxyFiles);
    await this.#listens(this.proxy, PROXY, 3128);
    return program;
  }

  /** SOCKS4 and 4a, and 5 without datagrams, by OpenSSH (`ssh -D`), at port 1082. */
  async ssh(): Promise<void> {
    const folder = this.#folder;
    const [hostKey, login, home] = [`${folder}/host-key`, `${folder}/login`, `${folder}/home`];
    const told = execFileSync('dropbearkey', ['-t', 'ed25519', '-f', hostKey], { encoding: 'utf8', stdio: 'pipe' });
    writeFileSync(`${folder}/known`, `[127.0.0.1]:2222 ${/^ssh-ed25519 .*$/m.exec(told)![0]}\n`);
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', login]);
    mkdirSync(`${home}/.ssh`, { recursive: true, mode: 0o700 });
    writeFileSync(`${home}/.ssh/authorized_keys`, readFileSync(`${login}.pub`), { mode: 0o600 });
    // who may log in is read from the user's own folder, which is another one there
    const script = `mount --bind ${home} ~root && exec dropbear -F -E -s -P "" -r ${hostKey} -p 127.0.0.1:2222`;
    this.proxy.start('sh', ['-c', script], this.#proxyFiles);
    await this.#listens(this.proxy, '127.0.0.1', 2222);
    const options = ['BatchMode=yes', 'ExitOnForwardFailure=yes', `UserKnownHostsFile=${folder}/known`];
    const args = ['-F', 'none', '-N', '-D', `${PROXY}:1082`, '-i', login, '-p', '2222'];
    this.proxy.start('ssh', [...args, ...options.flatMap((one) => ['-o', one]), 'root@127.0.0.1']);
    await this.#listens(this.proxy, PROXY, 1082);
  }

  /** A seed of the torrent in a DHT of its own. Its address is not in the torrent. */
  async seed(torrent: MadeTorrent, transport: 'tcp' | 'utp' | 'both'): Promise<void> {
    const script = fileURLToPath(new URL('./proxy-world.mjs', import.meta.url));
    const { folder } = torrent.payload;
    const asked = { addresses: WORLD, port: SEED_PORT, torrent: torrent.path, folder, transport };
    let ready = false;
    const program = this.world.start(process.execPath, [script, JSON.stringify(asked)], {
      onLine: (line) => {
        ready ||= line.includes('ready');
      },
    });
    await until('the seed behind the proxy is ready', () => ready, { timeoutMs: 60_000, detail: () => program.tail() });
  }

  /** opentracker, which knows the seed's swarm: http and udp at tracker.test. */
  async tracker(torrent: MadeTorrent): Promise<void> {
    const home = `${this.#folder}/tracker`;
    mkdirSync(home, { mode: 0o755 });
    writeFileSync(`${home}/whitelist`, `${torrent.infoHash}\n`);
    const ip = WORLD[1]!;
    const args = ['-i', ip, '-p', `${TRACKER_PORT}`, '-P', `${TRACKER_PORT}`, '-u', 'nobody', '-d', home];
    this.world.start('opentracker', [...args, '-w', 'whitelist']);
    await this.#listens(this.world, ip, TRACKER_PORT);
  }

  /** The tracker at `https:` too, with a certificate for tracker.test from an authority that clients here trust. */
  async secureTracker(): Promise<SecureTracker> {
    const folder = this.#folder;
    const issue = (name: string, more: readonly string[]): void => {
      const key = [
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-keyout',
        `${folder}/${name}.key`,
      ];
      const args = ['req', '-x509', ...key, '-out', `${folder}/${name}.pem`, '-days', '2', ...more];
      execFileSync('openssl', args, { stdio: 'pipe' });
    };
    issue('authority', ['-subj', '/CN=An authority']);
    const by = ['-CA', `${folder}/authority.pem`, '-CAkey', `${folder}/authority.key`];
    issue('server', [
      ...by,
      '-subj',
      '/CN=A tracker',
      '-addext',
      'subjectAltName=DNS:tracker.test',
      '-addext',
      'basicConstraints=critical,CA:FALSE',
    ]);
    this.#authority = `${folder}/authority.pem`;
    const script = fileURLToPath(new URL('./tls-front.mjs', import.meta.url));
    const ip = WORLD[1]!;
    const asked = {
      ip,
      port: SECURE_PORT,
      to: TRACKER_PORT,
      key: `${folder}/server.key`,
      cert: `${folder}/server.pem`,
    };
    const seen: SecureTracker = { names: [], requests: [] };
    this.world.start(process.execPath, [script, JSON.stringify(asked)], {
      onLine: (line) => {
        const said = JSON.parse(line) as { name?: string; request?: string };
        if (said.name !== undefined) seen.names.push(said.name);
        if (said.request !== undefined) seen.requests.push(said.request);
      },
    });
    await this.#listens(this.world, ip, SECURE_PORT);
    return seen;
  }

  /** `shoal get` in the client's room. */
  get(source: string, output: string, args: readonly string[]): ClientRun {
    const run = new ClientRun();
    const all = [SHOAL, 'get', source, '-o', output, '--state', `${output}.state`, '--json', ...args];
    run.program = this.client.start(process.execPath, all, {
      hosts: `${this.#folder}/client-hosts`,
      resolv: `${this.#folder}/resolv`,
      ...(this.#authority === null ? {} : { env: { NODE_EXTRA_CA_CERTS: this.#authority } }),
      onLine: (line) => run.lines.push(JSON.parse(line) as ShoalLine),
    });
    return run;
  }

  get #proxyFiles(): { hosts: string; resolv: string } {
    return { hosts: `${this.#folder}/hosts`, resolv: `${this.#folder}/resolv` };
  }

  async #listens(room: Room, ip: string, port: number): Promise<void> {
    const listens = (): boolean => room.run('bash', '-c', `exec 3<>/dev/tcp/${ip}/${port}`);
    await until(`${ip}:${port} listens`, listens, { timeoutMs: 30_000, detail: () => room.tail() });
  }
}

/** What came to the tracker over TLS. */
export interface SecureTracker {
  /** That were asked for in handshakes. */
  readonly names: string[];
  /** Paths without their queries. */
  readonly requests: string[];
}

export class ClientRun {
  readonly lines: ShoalLine[] = [];
  program: Program | null = null;

  last(type: string): ShoalLine | undefined {
    return this.lines.findLast((line) => line.type === type);
  }

  /** The exit code. */
  async ended(timeoutMs: number): Promise<number> {
    const { program } = this;
    const detail = (): string => `${JSON.stringify(this.lines.at(-1) ?? null)} ${program!.tail()}`;
    await until('the client ends', () => !program!.running, { timeoutMs, everyMs: 50, detail });
    return program!.exitCode!;
  }
}

/** What did not go to the proxy. */
export function strays(tally: Tally, ports: { readonly tcp: number; readonly udp?: boolean }): string[] {
  return Object.keys(tally).filter((to) => {
    if (to === `tcp ${PROXY}:${ports.tcp}`) return false;
    return !(ports.udp === true && to.startsWith(`udp ${PROXY}:`) && !to.endsWith(':53'));
  });
}

export function sentBy(tally: Tally, protocol: 'tcp' | 'udp'): number {
  return Object.entries(tally).reduce((sum, [to, count]) => sum + (to.startsWith(`${protocol} `) ? count : 0), 0);
}
