/** A session that follows a file with its port, on real sockets and files. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Session } from '../../packages/engine/dist/src/index.js';
import { tempFolder } from './support.ts';

const LOCAL = { bind: ['127.0.0.1'], dht: false, lsd: false } as const;
/** Not among those that the system gives by itself. */
const PORTS = [23_001, 23_002] as const;

function open(options: object): Session {
  const session = new Session({ ...LOCAL, ...options });
  onTestFinished(() => session.close());
  return session;
}

/** The next event of a type. */
async function next(session: Session, type: 'listening' | 'notice'): Promise<string> {
  for await (const event of session.events(AbortSignal.timeout(8000))) {
    if (event.type === type) return event.type === 'listening' ? `port ${event.address.port}` : event.message;
  }
  throw new Error(`no ${type}`);
}

test('it listens where the file says, follows it, and keeps the port when the file makes no sense', async () => {
  const file = join(tempFolder(), 'port');
  writeFileSync(file, `${PORTS[0]}\n`);
  const session = open({ portFile: file });
  await session.ready();
  expect(session.addresses).toEqual([{ ip: '127.0.0.1', port: PORTS[0] }]);
  const moved = next(session, 'listening');
  writeFileSync(file, `${PORTS[1]}`);
  expect(await moved).toBe(`port ${PORTS[1]}`);
  const odd = next(session, 'notice');
  writeFileSync(file, 'x'.repeat(100_000));
  expect(await odd).toBe(`the port file ${file} holds no port; the port stays as it is`);
  const gone = next(session, 'notice');
  rmSync(file);
  expect(await gone).toBe(`the port file ${file} cannot be read (ENOENT); the port stays as it is`);
  expect(session.addresses).toEqual([{ ip: '127.0.0.1', port: PORTS[1] }]);
}, 30_000);

test('a file that is not there yet keeps nothing waiting', async () => {
  const session = open({ portFile: join(tempFolder(), 'later'), port: 0 });
  await session.ready();
  expect(session.addresses[0]?.port).toBeGreaterThan(0);
  expect(() => new Session({ ...LOCAL, port: null, portFile: 'x' })).toThrow('no use for a port file');
});
