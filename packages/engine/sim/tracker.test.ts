import { expect, test } from 'vitest';
import { latin1 } from '../src/base/bytes.ts';
import type { HttpResponse } from '../src/base/ports.ts';
import { decode } from '../src/codec/bencode.ts';
import type { SimNode } from './node.ts';
import { SimTracker } from './tracker.ts';
import { World } from './world.ts';

const HASH = `%12${'%ab'.repeat(17)}A~`;

function ask(node: SimNode, url: string, maxBytes = 65536): { code: string | null; response: HttpResponse | null } {
  const out: { code: string | null; response: HttpResponse | null } = { code: 'PENDING', response: null };
  const request = {
    url,
    headers: {},
    timeoutMs: 15_000,
    maxBytes,
    maxRedirects: 2,
    origin: 'tracker' as const,
    family: null,
  };
  node.ports!.http.get(request, (fault, response) => {
    out.code = fault?.code ?? null;
    out.response = response;
  });
  node.world.run(20_000);
  return out;
}

test('announces fill the swarm, answers name the others, stopped takes out', () => {
  const world = new World({ seed: 31 });
  const tracker = new SimTracker(world);
  const nodes = Array.from({ length: 5 }, () => world.addNode());
  for (const [i, node] of nodes.entries()) {
    node.boot();
    const url = `${tracker.url}?info_hash=${HASH}&peer_id=x&port=${7000 + i}&left=${i}&uploaded=0&downloaded=0&event=started&compact=1`;
    const { code, response } = ask(node, url);
    expect(code).toBe(null);
    const text = latin1(response!.body);
    expect(text).toContain(`8:completei1e10:incompletei${i}e`);
    expect(text).toContain(`5:peers${6 * i}:`);
    decode(response!.body);
  }
  const hex = `12${'ab'.repeat(17)}417e`;
  expect(tracker.members(hex).length).toBe(5);
  ask(nodes[2]!, `${tracker.url}?info_hash=${HASH}&port=7002&left=0&event=stopped`);
  expect(tracker.members(hex).map((member) => member.port)).toEqual([7000, 7001, 7003, 7004]);
  const scraped = ask(nodes[0]!, `${tracker.url.replace('announce', 'scrape')}?info_hash=${HASH}`);
  decode(scraped.response!.body);
  expect(latin1(scraped.response!.body)).toContain('8:completei1e10:downloadedi0e10:incompletei3e');
});

test('the ways an exchange fails', () => {
  const world = new World({ seed: 32 });
  const tracker = new SimTracker(world);
  const node = world.addNode();
  node.boot();
  const url = `${tracker.url}?info_hash=${HASH}&port=7000&left=1`;
  tracker.mode = 'refused';
  expect(ask(node, url).code).toBe('ECONNREFUSED');
  tracker.mode = 'silent';
  expect(ask(node, url).code).toBe('ETIMEOUT');
  tracker.mode = 'up';
  expect(ask(node, url, 10).code).toBe('ETOOBIG');
  expect(ask(node, 'http://nowhere.example/').code).toBe('ENOTFOUND');
  world.web.servers.set('loop.example', {
    answer: () => ({ status: 302, body: new Uint8Array(0), headers: { location: 'http://loop.example/' } }),
  });
  expect(ask(node, 'http://loop.example/').code).toBe('EREDIRECTS');
  node.host.online = false;
  expect(ask(node, url).code).toBe('ENETUNREACH');
});
