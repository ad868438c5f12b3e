import { expect, test } from 'vitest';
import type { Peer } from './peer.ts';
import { Takers } from './takers.ts';

const MiB = 1 << 20;

/** What is judged of a peer. */
function taker(ip: string, id: number, lackedShare: number): { peer: Peer; take: (bytes: number) => void } {
  const up = { total: 0 };
  const peer = {
    peerId: new Uint8Array(20).fill(id),
    link: { remote: { ip, port: 1 } },
    up,
    takenSeen: 0,
    lackedShare,
  };
  return { peer: peer as unknown as Peer, take: (bytes) => (up.total += bytes) };
}

test('who takes what he lacked, and a little more, is honest, however often he comes', () => {
  const takers = new Takers();
  for (let connection = 0; connection < 4; connection++) {
    const { peer, take } = taker('1.1.1.1', 7, connection === 0 ? 1 : 0.5);
    take(300 * MiB);
    expect(takers.judge(peer, 1000 * MiB)).toBe(false);
  }
});

test('who takes more than all that he lacked is found out, also over several connections', () => {
  const takers = new Takers();
  const judged = [1, 2, 3, 4].map(() => {
    const { peer, take } = taker('1.1.1.1', 7, 0.5);
    take(200 * MiB);
    return takers.judge(peer, 1000 * MiB);
  });
  // 500 and a quarter, and 128
  expect(judged).toEqual([false, false, false, true]);
});

test('several behind one address are each given what they lack, but not without end', () => {
  const takers = new Takers();
  for (let n = 0; n < 16; n++) {
    const { peer, take } = taker('1.1.1.1', n, 1);
    take(1000 * MiB);
    expect(takers.judge(peer, 1000 * MiB)).toBe(false);
  }
  let banned = -1;
  for (let n = 16; n < 40 && banned < 0; n++) {
    const { peer, take } = taker('1.1.1.1', n, 1);
    take(1000 * MiB);
    if (takers.judge(peer, 1000 * MiB)) banned = n;
  }
  expect(banned).toBe(20);
});
