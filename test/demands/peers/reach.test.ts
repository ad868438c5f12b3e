/** W19, U1, U2 and U5 of the demands on real sockets: strangers at the key exchange of MSE, and at the UDP port. */

import { createDiffieHellman, randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Shoal } from '../../e2e/shoal.ts';
import { type Agent, layOut, type Made, makeFile, pause, sameBytes, until, World } from '../world/kit.ts';
import { handshake, MSE_PRIME, Stranger } from './raw.ts';

const MIB = 1 << 20;
let world: World;
let made: Made;
let strangers: Stranger[];
let datagrams: Datagrams[];

beforeEach(() => {
  world = new World();
  strangers = [];
  datagrams = [];
  made = makeFile('good', 8 * MIB);
});
afterEach(async () => {
  for (const stranger of strangers) stranger.close();
  for (const one of datagrams) one.close();
  await world.close();
});

async function stranger(peer: string, from = '127.0.0.1'): Promise<Stranger> {
  const one = new Stranger(peer, from);
  strangers.push(one);
  await one.opened;
  return one;
}

/** An honest session gets all of it. */
async function download(peer: string, name: string, options: Record<string, unknown>): Promise<number> {
  const agent = world.agent();
  const folder = world.make(name);
  await agent.open(options);
  const from = performance.now();
  await agent.add(made, { folder, peers: [peer] });
  await agent.call('done', 0);
  const took = performance.now() - from;
  expect(sameBytes(made, folder)).toBe(true);
  await agent.end();
  return took;
}

/** The most memory above what it was, MiB, and the delay of the event loop meanwhile, ms. */
async function during(seed: Agent, attack: () => Promise<unknown>): Promise<{ rssMiB: number; p99Ms: number }> {
  const before = (await seed.usage()).rss;
  let most = before;
  const watch = setInterval(async () => {
    most = Math.max(most, (await seed.call<{ rss: number }>('usage', false)).rss);
  }, 50);
  await attack().finally(() => clearInterval(watch));
  const { delayP99Ms, rss } = await seed.usage();
  return { rssMiB: (Math.max(most, rss) - before) / MIB, p99Ms: delayP99Ms };
}

describe('W19: the key exchange', () => {
  it('keys that make the secret known to all end the connection', async () => {
    const { agent, peer } = await world.seed([made]);
    const number = (n: number): Buffer => Buffer.concat([Buffer.alloc(95), Buffer.from([n])]);
    const less = Buffer.from(MSE_PRIME);
    less[95]! -= 1;
    const more = Buffer.from(MSE_PRIME);
    more[95]! += 1;
    for (const key of [number(0), number(1), less, MSE_PRIME, more, Buffer.alloc(96, 255)]) {
      const one = await stranger(peer);
      one.raw(key);
      await until(
        () => one.isOpen,
        (open) => !open,
        1000,
        `the end after ${key.toString('hex')}`,
      );
      expect(one.socket.bytesRead).toBe(0);
    }
    const fair = await stranger(peer);
    fair.raw(createDiffieHellman(MSE_PRIME, 2).generateKeys());
    await until(
      () => fair.socket.bytesRead,
      (bytes) => bytes >= 96,
      1000,
      'a key',
    );
    await agent.end();
  });

  it('slow ones are closed within 10 s, wherever they stop', async () => {
    const { agent, peer } = await world.seed([made], { maxConnections: 2000 });
    const key = createDiffieHellman(MSE_PRIME, 2).generateKeys();
    const crowd: Stranger[] = [];
    const cost = await during(agent, async () => {
      for (let i = 0; i < 600; i++) {
        const one = await stranger(peer, `127.0.${1 + (i >> 7)}.${1 + (i & 127)}`);
        // half a key; a key; a key and padding without end
        one.raw(i % 3 === 0 ? key.subarray(0, 40) : key);
        crowd.push(one);
      }
      const drip = setInterval(() => {
        for (let i = 2; i < crowd.length; i += 3) crowd[i]!.raw(randomBytes(8));
      }, 1000);
      await Promise.race([Promise.all(crowd.map(({ closed }) => closed)), pause(12_000)]);
      clearInterval(drip);
    });
    expect(crowd.filter(({ isOpen }) => isOpen).length).toBe(0);
    for (const { closedAtMs, openedAtMs } of crowd) expect(closedAtMs - openedAtMs).toBeLessThanOrEqual(10_100);
    expect(cost.rssMiB).toBeLessThanOrEqual(64);
    await agent.end();
  });
});

const Type = { Data: 0, Fin: 1, State: 2, Reset: 3, Syn: 4 } as const;

/** A UDP socket that speaks uTP as badly as it is told. */
class Datagrams {
  readonly got: Buffer[] = [];
  readonly #socket: Socket = createSocket('udp4');
  readonly #port: number;
  sentBytes = 0;

  constructor(port: number) {
    this.#port = port;
    this.#socket.on('message', (bytes) => this.got.push(bytes));
    datagrams.push(this);
  }

  async open(from = '127.0.0.1'): Promise<this> {
    await new Promise<void>((resolve) => this.#socket.bind(0, from, resolve));
    return this;
  }

  get gotBytes(): number {
    return this.got.reduce((sum, { length }) => sum + length, 0);
  }

  raw(bytes: Uint8Array): void {
    this.sentBytes += bytes.length;
    this.#socket.send(bytes, this.#port, '127.0.0.1');
  }

  send(type: number, id: number, seq: number, ack: number, payload: Uint8Array = Buffer.alloc(0)): void {
    const head = Buffer.alloc(20);
    head[0] = (type << 4) | 1;
    head.writeUInt16BE(id & 0xffff, 2);
    head.writeUInt32BE(1, 4);
    head.writeUInt32BE(MIB, 12);
    head.writeUInt16BE(seq & 0xffff, 16);
    head.writeUInt16BE(ack & 0xffff, 18);
    this.raw(Buffer.concat([head, payload]));
  }

  async answer(count = 1): Promise<Buffer> {
    await until(
      () => this.got.length,
      (length) => length >= count,
      2000,
      'an answer',
    );
    return this.got.at(-1)!;
  }

  close(): void {
    this.#socket.close();
  }
}

describe('the UDP port of a running `shoal seed`', () => {
  let shoal: Shoal;
  let port: number;

  beforeEach(async () => {
    layOut(made, world.make('data'));
    writeFileSync(world.path('it.torrent'), made.torrent);
    const args = [
      'seed',
      world.path('it.torrent'),
      world.path('data'),
      '--bind',
      '127.0.0.1',
      '--port',
      '0',
      '--no-dht',
    ];
    shoal = new Shoal([...args, '--no-lsd', '--json'], {}, world.folder);
    port = Number((await shoal.line('listening'))['port']);
    await shoal.line('progress', ({ state }) => state === 'seeding');
  });
  afterEach(async () => {
    shoal.kill('SIGINT');
    expect(await shoal.ended).toMatchObject({ code: 0, stderr: '' });
  });

  it('U1: who does not show that he is where he says gets at most three times his bytes, whatever he guesses', async () => {
    const silent = await new Datagrams(port).open();
    silent.send(Type.Syn, 7, 100, 0);
    // its own number, as if guessed; then the handshake of a peer, plain and as a key exchange
    const seq = (await silent.answer()).readUInt16BE(16);
    silent.send(Type.Data, 8, 101, seq - 1, handshake(made.infoHash));
    const other = await new Datagrams(port).open('127.0.0.2');
    other.send(Type.Syn, 9, 200, 0);
    const otherSeq = (await other.answer()).readUInt16BE(16);
    other.send(Type.Data, 10, 201, otherSeq - 1, createDiffieHellman(MSE_PRIME, 2).generateKeys());
    const mute = await new Datagrams(port).open('127.0.0.3');
    mute.send(Type.Syn, 11, 300, 0);
    await pause(14_000);
    for (const one of [silent, other, mute]) {
      expect(one.gotBytes).toBeGreaterThan(0);
      expect(one.gotBytes).toBeLessThanOrEqual(3 * one.sentBytes);
    }
    // it did answer with a handshake, and a SYN alone is answered once
    expect(Buffer.concat(silent.got).includes('BitTorrent protocol')).toBe(true);
    expect(mute.got.length).toBe(1);
  });

  it('U2: a reset is no longer than what it answers, and there are 5 a second to one address', async () => {
    const lost = await new Datagrams(port).open();
    const long = await new Datagrams(port).open('127.0.0.2');
    const from = performance.now();
    for (let i = 0; i < 1000; i++) {
      lost.send(i % 2 === 0 ? Type.Data : Type.Fin, i, 1, 1);
      long.send(Type.State, i, 1, 1, randomBytes(500));
      if (i % 20 === 0) await pause(60);
    }
    const seconds = Math.ceil((performance.now() - from) / 1000) + 1;
    await pause(300);
    for (const one of [lost, long]) {
      expect(one.got.length).toBeGreaterThan(0);
      expect(one.got.length).toBeLessThanOrEqual(5 * seconds);
      expect(one.got.every((bytes) => bytes.length === 20 && bytes[0] === ((Type.Reset << 4) | 1))).toBe(true);
    }
    // nor is a reset answered, nor what is no packet at all
    const quiet = await new Datagrams(port).open('127.0.0.4');
    quiet.send(Type.Reset, 5, 1, 1);
    for (const length of [0, 1, 19, 20, 1400]) quiet.raw(Buffer.alloc(length, 0x77));
    quiet.raw(Buffer.from([0x01]));
    quiet.raw(Buffer.concat([Buffer.from([0x01, 1]), Buffer.alloc(18), Buffer.from([0, 255])]));
    await pause(300);
    expect(quiet.got).toEqual([]);
  });
});

describe('U5: 10,000 SYNs at a running session', () => {
  it('cost 64 MiB at most, and a friend gets in over uTP meanwhile', async () => {
    const { agent, peer } = await world.seed([made], { transport: 'both' });
    await download(peer, 'warm', { transport: 'utp' });
    const port = Number(peer.split(':')[1]);
    const crowd = await Promise.all(
      Array.from({ length: 100 }, (_, i) => new Datagrams(port).open(`127.4.${i >> 6}.${1 + (i & 63)}`)),
    );
    let took = 0;
    const cost = await during(agent, async () => {
      const friend = download(peer, 'meanwhile', { transport: 'utp' });
      for (let id = 0; id < 100; id++) {
        for (const one of crowd) one.send(Type.Syn, 3 * id, id, 0);
        await pause(15);
      }
      took = await friend;
    });
    const answered = crowd.reduce((sum, { got }) => sum + got.length, 0);
    console.log(
      `10,000 SYNs, ${answered} answered: ${cost.rssMiB.toFixed(1)} MiB, p99 ${cost.p99Ms.toFixed(0)} ms, friend ${took.toFixed(0)} ms`,
    );
    expect(answered).toBeGreaterThan(5000);
    for (const one of crowd) expect(one.gotBytes).toBeLessThanOrEqual(one.sentBytes);
    expect(cost.rssMiB).toBeLessThanOrEqual(64);
    expect(took).toBeLessThanOrEqual(10_000);
    expect(await download(peer, 'after', { transport: 'utp' })).toBeLessThanOrEqual(10_000);
    await agent.end();
  }, 60_000);
});
