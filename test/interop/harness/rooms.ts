/**
 * Machines of their own for a test: network namespaces, each kept by a process that sleeps, and cables between them. They
 * end with the test. Only in the wrapper's namespace, as root of it.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PYTHON } from './available.ts';
import { Program } from './program.ts';
import { pause, until } from './wait.ts';

export class Room {
  readonly name: string;
  readonly home: string;
  readonly #keeper: Program;
  readonly #programs: Program[] = [];

  private constructor(name: string, home: string, keeper: Program) {
    this.name = name;
    this.home = home;
    this.#keeper = keeper;
  }

  static async make(name: string, folder: string): Promise<Room> {
    const home = mkdtempSync(`${folder}/${name}-`);
    const keeper = new Program('unshare', ['--net', 'sh', '-c', 'echo kept; exec sleep 3600'], {
      home,
      onLine: (line) => {
        kept ||= line === 'kept';
      },
    });
    let kept = false;
    await until(`the room ${name} is there`, () => kept, { timeoutMs: 10_000, everyMs: 5 });
    const room = new Room(name, home, keeper);
    room.ip('link', 'set', 'lo', 'up');
    return room;
  }

  get pid(): number {
    return this.#keeper.child.pid!;
  }

  /** What to put before a command so that it runs here. */
  get enter(): readonly string[] {
    return ['nsenter', `--net=/proc/${this.pid}/ns/net`];
  }

  /** Runs `ip` here. */
  ip(...args: readonly string[]): void {
    const { status, stderr } = spawnSync(this.enter[0]!, [...this.enter.slice(1), 'ip', ...args], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
  }

  /** Runs a command here to its end. False: it failed. */
  run(...command: readonly string[]): boolean {
    return spawnSync(this.enter[0]!, [...this.enter.slice(1), ...command]).status === 0;
  }

  /** Starts a program here, in a folder of its own; it ends with the room. `hosts`: what stands in its /etc/hosts. */
  start(
    command: string,
    args: readonly string[],
    options: {
      onLine?: (line: string) => void;
      hosts?: string;
      resolv?: string;
      env?: Readonly<Record<string, string>>;
    } = {},
  ): Program {
    const home = mkdtempSync(`${this.home}/${command.replace(/.*\//, '')}-`);
    const mounts = Object.entries({ '/etc/hosts': options.hosts, '/etc/resolv.conf': options.resolv })
      .filter(([, path]) => path !== undefined)
      .map(([target, path]) => `mount --bind ${path} ${target} && `)
      .join('');
    // shared memory of programs of a name is not shared between rooms
    const script = `${mounts}mount -t tmpfs none /dev/shm && exec "$0" "$@"`;
    const enter = [...this.enter, 'unshare', '--mount', 'sh', '-c', script];
    const program = new Program(command, args, {
      home,
      enter,
      ...(options.onLine === undefined ? {} : { onLine: options.onLine }),
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    this.#programs.push(program);
    return program;
  }

  async end(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()));
    await this.#keeper.stop();
  }

  tail(): string {
    return this.#programs.map((program) => `--- ${this.name}: ${program.name}\n${program.tail()}`).join('\n');
  }
}

/** Joins two rooms; each end is `device` with an address and its prefix: 10.1.0.1/24. */
export function cable(
  one: { readonly room: Room; readonly device: string; readonly address: string },
  other: { readonly room: Room; readonly device: string; readonly address: string },
): void {
  const pid = String(other.room.pid);
  one.room.ip('link', 'add', one.device, 'type', 'veth', 'peer', 'name', other.device, 'netns', pid);
  for (const { room, device, address } of [one, other]) {
    room.ip('addr', 'add', address, 'dev', device);
    room.ip('link', 'set', device, 'up');
  }
}

/** What left by a device, by the words "tcp 10.0.0.1:1080". */
export type Tally = Readonly<Record<string, number>>;

/** Counts the IP packets that leave a room by a device. What the kernel itself says of its neighbours does not count. */
export class WireTally {
  readonly #program: Program;
  readonly #answers: Tally[] = [];
  #ready = false;

  constructor(room: Room, device: string) {
    const script = fileURLToPath(new URL('./wire-tally.py', import.meta.url));
    this.#program = room.start(PYTHON, [script, device], {
      onLine: (line) => {
        const said = JSON.parse(line) as { ready?: boolean; sent?: Tally };
        if (said.ready === true) this.#ready = true;
        else this.#answers.push(said.sent!);
      },
    });
  }

  async ready(): Promise<void> {
    const detail = (): string => this.#program.tail();
    await until('the tally runs', () => this.#ready, { timeoutMs: 20_000, everyMs: 10, detail });
  }

  async read(): Promise<Tally> {
    // what was just sent is seen a little later
    await pause(100);
    const had = this.#answers.length;
    this.#program.send('');
    await until('the tally answers', () => this.#answers.length > had, { timeoutMs: 20_000, everyMs: 10 });
    return this.#answers.at(-1)!;
  }
}
