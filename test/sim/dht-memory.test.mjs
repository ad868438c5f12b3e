/** What a flood leaves in a DHT node, by the built engine: alone in its process, since it looks at all of its memory. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { DhtFlood } from '../../packages/engine/dist/sim/index.js';

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc');

test('a million announces leave caps and memory as they were', { timeout: 300_000 }, () => {
  const flood = new DhtFlood(7);
  // the heap's nursery grows once to what such a flood needs, whatever the flood
  flood.run(300_000, 6000);
  gc();
  const before = process.memoryUsage().rss;
  flood.run(1_000_000, 20_000);
  gc();
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  console.log(`${flood.announced} announces and ${flood.put} puts taken, RSS ${grown.toFixed(1)} MiB more`);
  expect(flood.announced).toBeGreaterThan(1_000_000);
  expect(flood.put).toBeGreaterThanOrEqual(20_000);
  const { stats } = flood.dht;
  expect(stats.hashesStored).toBeLessThanOrEqual(2000);
  expect(stats.peersStored).toBeLessThanOrEqual(1_000_000);
  expect(stats.itemsStored).toBeLessThanOrEqual(700);
  expect(grown).toBeLessThan(32);
});
