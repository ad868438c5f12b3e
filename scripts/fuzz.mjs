// Feeds mutated input to every parser and demands that nothing but the parser's own error type comes out, in bounded
// time. Runs on the built package: npm run build first.
//
//   node scripts/fuzz.mjs [--runs 1000000] [--seed N] [--only bencode,torrent,...]
//
// A parser is a row of `targets`: seeds to mutate, what to call, and which errors it may throw. The run prints its seed;
// the same seed gives the same inputs. Exit code 1 when anything else is thrown, a call takes longer than 100 ms per
// 64 KiB of input, or memory grows.

import { createHash } from 'node:crypto';

const codec = await import('../packages/engine/dist/src/codec/index.js');
const { Rng } = await import('../packages/engine/dist/src/base/random.js');
const { ShoalError } = await import('../packages/engine/dist/src/base/errors.js');
const { sha1 } = await import('../packages/engine/dist/src/base/hash.js');
const { PlatformCrypto } = await import('../packages/engine/dist/src/base/platform-crypto.js');
const { Dht } = await import('../packages/engine/dist/src/discovery/dht.js');
const { ExternalIp } = await import('../packages/engine/dist/src/discovery/external-ip.js');
const { parseEndpoint, parseIp } = await import('../packages/engine/dist/src/base/ip.js');

const text = (string) => new TextEncoder().encode(string);
const asText = (bytes) => new TextDecoder().decode(bytes);
const { encode, BencodeError } = codec;

/** What mutations put in. */
const TOKENS = [
  ...['d', 'l', 'e', 'i', 'de', 'le', 'i0e', 'i-1e', 'i-0e', 'i9223372036854775807e', 'i18446744073709551616e', '0:'],
  ...['1:', '01:', '99999999999:', '4:info', '6:length', '4:path', '0:d', '4:attr1:l', '../', '..', '/', '\\', '\0'],
  ...['%', '%zz', '&', '=', '&so=0-999999999', '&xt=urn:btih:', '&tr=', '\u202e', '\ufffd', '1-', ':', '[', ']', '-'],
  ...['9'.repeat(25), '-'.repeat(9), '9:__proto__', 'l'.repeat(120)],
].map(text);

/** @type {{ name: string, seeds: Uint8Array[], run: (bytes: Uint8Array) => void, allowed: Function[] }[]} */
const targets = [
  { name: 'bencode', seeds: torrents(), run: (bytes) => walk(codec.decode(bytes)), allowed: [BencodeError] },
  {
    name: 'bencode-prefix',
    seeds: [text('d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx'), text('d1:md11:ut_metadatai3eee')],
    run: (bytes) => walk(codec.decodePrefix(bytes).value),
    allowed: [BencodeError],
  },
  { name: 'torrent', seeds: torrents(), run: useTorrent, allowed: [ShoalError] },
  { name: 'magnet', seeds: magnets(), run: (bytes) => useMagnet(asText(bytes)), allowed: [ShoalError] },
  {
    name: 'address',
    seeds: ['1.2.3.4:80', '[2001:db8::1:0:0:1]:6881', '::ffff:1.2.3.4', 'tracker.example:443'].map(text),
    run: (bytes) => void [parseIp(asText(bytes)), parseEndpoint(asText(bytes))],
    allowed: [],
  },
  {
    name: 'peer-id',
    seeds: ['-qB4620-abcdefghijkl', 'M7-10-5--abcdefghijk', 'exbc\0\x38LORDabcdefghij', 'S58B-----abcdefghijk'].map(
      text,
    ),
    run: (bytes) => void codec.clientName(bytes),
    allowed: [],
  },
  { name: 'dht', seeds: datagrams(), run: useDht(), allowed: [] },
  { name: 'dht-state', seeds: dhtStates(), run: useDhtState, allowed: [] },
];

const options = readOptions();
const rng = new Rng(new Uint32Array(createHash('sha256').update(String(options.seed)).digest().buffer.slice(0, 16)));
console.log(`fuzz: ${options.runs} runs, seed ${options.seed}`);
let failures = 0;
let done = 0;
const chosen = targets.filter((target) => options.only === null || options.only.includes(target.name));
if (chosen.length === 0) {
  console.error(`no such parser; there are ${targets.map((target) => target.name).join(', ')}`);
  process.exit(2);
}
globalThis.gc?.();
const heapBefore = process.memoryUsage().heapUsed;
const rounds = Math.ceil(options.runs / chosen.length);
for (const target of chosen) {
  let accepted = 0;
  let slowest = 0;
  const started = performance.now();
  for (let i = 0; i < rounds; i++, done++) {
    const bytes = mutate(target.seeds);
    const before = performance.now();
    try {
      target.run(bytes);
      accepted++;
    } catch (error) {
      if (!target.allowed.some((kind) => error instanceof kind)) report(target.name, bytes, error);
    }
    const took = performance.now() - before;
    if (took > slowest) slowest = took;
    // the machine may stall a run; input that is slow is slow again
    if (took > limitFor(bytes) && again(target, bytes) > limitFor(bytes)) report(target.name, bytes, `${took} ms`);
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(
    `  ${target.name}: ${rounds} inputs, ${accepted} accepted, slowest ${slowest.toFixed(1)} ms, ${seconds} s`,
  );
}
if (globalThis.gc) {
  globalThis.gc();
  const grown = (process.memoryUsage().heapUsed - heapBefore) / 1048576;
  console.log(`  memory after the run: ${grown.toFixed(1)} MiB above before`);
  if (grown > 16) failures++;
}
console.log(`fuzz: ${done} inputs, ${failures} failures, seed ${options.seed}`);
process.exit(failures > 0 ? 1 : 0);

function report(name, bytes, error) {
  failures++;
  if (failures > 20) return;
  console.error(`FAILED ${name}: ${error instanceof Error ? error.stack : error}`);
  console.error(`  input (base64): ${Buffer.from(bytes).toString('base64').slice(0, 2000)}`);
}

function limitFor(bytes) {
  return 100 * Math.max(1, bytes.length / 65536);
}

/** The best of three more runs. */
function again(target, bytes) {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    const before = performance.now();
    try {
      target.run(bytes);
    } catch {
      // judged by the first run
    }
    best = Math.min(best, performance.now() - before);
  }
  return best;
}

function readOptions() {
  const found = { runs: 1_000_000, seed: Math.floor(Math.random() * 2 ** 32), only: null };
  const args = process.argv.slice(2);
  for (let i = 0; i < args.length; i += 2) {
    if (args[i] === '--runs') found.runs = Number(args[i + 1]);
    else if (args[i] === '--seed') found.seed = Number(args[i + 1]);
    else if (args[i] === '--only') found.only = String(args[i + 1]).split(',');
    else {
      console.error('usage: fuzz.mjs [--runs N] [--seed N] [--only NAME,...]');
      process.exit(2);
    }
  }
  return found;
}

/** One to eight edits of a seed, few more often than many; bencoding's own characters and odd numbers come often. */
function mutate(seeds) {
  let bytes = seeds[rng.below(seeds.length)].slice();
  for (let edits = 1 + rng.below(1 + rng.below(8)); edits > 0; edits--) {
    const at = rng.below(bytes.length + 1);
    const length = Math.min(rng.below(16), bytes.length - at);
    switch (rng.below(8)) {
      case 0:
        if (at < bytes.length) bytes[at] = rng.below(256);
        break;
      case 1:
        if (at < bytes.length) bytes[at] ^= 1 << rng.below(8);
        break;
      case 2:
        bytes = join(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 3:
        bytes = join(bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at));
        break;
      case 4: {
        const token = TOKENS[rng.below(TOKENS.length)];
        bytes = join(bytes.subarray(0, at), token, bytes.subarray(at));
        break;
      }
      case 5: {
        const token = TOKENS[rng.below(TOKENS.length)];
        bytes = join(bytes.subarray(0, at), token, bytes.subarray(Math.min(bytes.length, at + token.length)));
        break;
      }
      case 6: {
        const other = seeds[rng.below(seeds.length)];
        bytes = join(bytes.subarray(0, at), other.subarray(rng.below(other.length)));
        break;
      }
      default:
        if (at < bytes.length && bytes[at] >= 48 && bytes[at] <= 57) bytes[at] = 48 + rng.below(10);
        else bytes = bytes.slice(0, at);
    }
  }
  return bytes;
}

function join(...parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Reads everything a decoded value holds. */
function walk(value) {
  if (Array.isArray(value)) for (const item of value) walk(item);
  else if (value instanceof codec.BDict) {
    for (const [key, item] of value.entries()) {
      value.raw(key);
      walk(item);
    }
  }
}

function useTorrent(bytes) {
  const meta = codec.parseTorrent(bytes);
  const layout = new codec.Layout(meta);
  for (const piece of [0, meta.pieceCount >>> 1, meta.pieceCount - 1]) {
    let length = 0;
    for (const span of layout.spans(piece, 0, layout.pieceSize(piece))) length += span.length;
    if (length !== layout.pieceSize(piece)) throw new Error('spans do not cover the piece');
    if (meta.hasDigests && meta.digestOf(piece).length < 20) throw new Error('short digest');
  }
  const seen = new Set();
  for (const file of meta.files) {
    if (file.pad) continue;
    const path = file.path.join('/');
    if (seen.has(path.toLowerCase())) throw new Error(`double path ${path}`);
    seen.add(path.toLowerCase());
    for (const name of [...file.path, ...(file.symlink ?? [])]) {
      if (!codec.isSafeComponent(name)) throw new Error(`unsafe name ${JSON.stringify(name)}`);
    }
  }
  const again = codec.parseTorrent(meta.torrentBytes());
  if (Buffer.compare(again.swarmHash, meta.swarmHash) !== 0) throw new Error('written torrent differs');
}

function useMagnet(link) {
  const magnet = codec.parseMagnet(link);
  codec.parseMagnet(codec.formatMagnet(magnet));
}

function datagrams() {
  const id = new Uint8Array(20).fill(9);
  const q = (method, a) => encode({ t: 'aa', y: 'q', q: method, v: 'XX01', a: { id, ...a } });
  // the first ids of transactions that `useDht` has open
  const r = (n, fields, rest = {}) =>
    encode({ t: Uint8Array.of(0, n, 0, 0), y: 'r', ip: text('abcdef'), ...rest, r: { id, ...fields } });
  return [
    q('ping', {}),
    q('find_node', { target: id, want: ['n4', 'n6'] }),
    q('get_peers', { info_hash: id, noseed: 1, scrape: 1 }),
    q('announce_peer', { info_hash: id, port: 6881, implied_port: 1, seed: 1, token: 'aoeusnth' }),
    q('get', { target: id, seq: 5 }),
    q('put', { v: { a: [1, 'b'] }, token: 'aoeusnth' }),
    q('put', { k: new Uint8Array(32), sig: new Uint8Array(64), seq: 4, cas: 3, salt: 's', v: 'x', token: 'aoeusnth' }),
    q('sample_infohashes', { target: id }),
    r(0, { nodes: new Uint8Array(208).fill(77), nodes6: new Uint8Array(76).fill(77) }),
    r(1, { token: 't', values: ['abcdef', 'x'.repeat(18)], nodes: new Uint8Array(26).fill(50) }),
    r(2, { BFsd: new Uint8Array(256), BFpe: new Uint8Array(256).fill(3) }),
    r(3, { k: new Uint8Array(32), sig: new Uint8Array(64), seq: 4, v: ['x'], token: 't' }),
    r(4, { samples: new Uint8Array(60), num: 3, interval: 60 }),
    encode({ t: Uint8Array.of(0, 5, 0, 0), y: 'e', e: [201, 'no'] }),
  ];
}

function newDht() {
  const rng = new Rng(Uint32Array.of(1, 2, 3, 4));
  // transaction ids that the seeds know
  const random = { fill: (bytes) => void bytes.fill(0) };
  const sink = { onDhtSend: () => true };
  const version = text('XX01');
  return new Dht({
    rng,
    random,
    crypto: new PlatformCrypto(),
    external: new ExternalIp(),
    sink,
    version,
    floodLimit: Infinity,
  });
}

/** Datagrams for a node with commands of all kinds under way, renewed as they end. */
function useDht() {
  const done = () => {};
  const sink = { onDhtPeers: done, onDhtPeersDone: done, onDhtScrape: done, onDhtItem: done, onDhtItemDone: done };
  Object.assign(sink, { onDhtPut: done, onDhtSamples: done, onDhtSampleDone: done });
  const target = new Uint8Array(20).fill(8);
  let dht = null;
  let now = 0;
  return (bytes) => {
    if (dht === null || now % 200_000 === 0) {
      dht = newDht();
      dht.start(now, { v4: true, v6: true });
      dht.addRouter(now, '9.9.9.9', 6881);
    }
    if (dht.stats.lookups < 6) {
      dht.getPeers(now, target, sink, { port: 1, seed: false });
      dht.scrape(now, target, sink);
      dht.getItem(now, target, null, sink);
      dht.getItem(now, target, { publicKey: new Uint8Array(32), salt: new Uint8Array(0) }, sink);
      dht.sample(now, target, sink);
    }
    now += 100;
    dht.datagram(now, bytes, '9.9.9.9', 6881);
    if (dht.nextAt() <= now) dht.tick(now);
  };
}

/** The body of a saved state, behind a checksum that is right whatever became of it. */
function dhtStates() {
  const family = (size) => ({ id: new Uint8Array(20).fill(1), nodes: new Uint8Array(3 * size).fill(80) });
  return [encode({ 4: family(26), 6: family(38) }), encode({ 4: family(26) })];
}

function useDhtState(body) {
  const salted = new Uint8Array([...text('dht state 1'), ...body]);
  const dht = newDht();
  dht.restore(0, new Uint8Array([...sha1(salted), ...body]));
  dht.start(0, { v4: true, v6: true });
  dht.tick(0);
}

function torrents() {
  const pieces = new Uint8Array(40).fill(1);
  const root = new Uint8Array(32).fill(2);
  const layer = new Uint8Array(64).fill(3);
  const layerRoot = codec.merkleRoot(layer, 2);
  const leaf = (length, hash = root) => ({ '': { length, 'pieces root': hash } });
  const single = { length: 20_000, name: 'file.bin', 'piece length': 16384, pieces };
  const files = [
    { length: 9000, path: ['dir', 'a.txt'], attr: 'x' },
    { length: 7384, path: ['.pad', '7384'], attr: 'p' },
    { length: 0, path: ['dir', 'link'], attr: 'l', 'symlink path': ['dir', 'a.txt'] },
    { length: 5, path: ['..', 'CON'], 'path.utf-8': ['ü', 'b'] },
  ];
  const tree = { dir: { 'a.txt': leaf(9000) }, z: leaf(20_000, layerRoot) };
  const outer = {
    announce: 'http://tracker.example/announce',
    'announce-list': [['http://tracker.example/announce', ''], ['udp://tracker.example:80']],
    comment: 'a comment',
    'creation date': 1_700_000_000,
    nodes: [['127.0.0.1', 6881]],
    'url-list': ['http://seed.example/'],
  };
  const v2 = { 'file tree': tree, 'meta version': 2, name: 'folder', 'piece length': 16384 };
  const hybridFiles = [
    { length: 9000, path: ['dir', 'a.txt'] },
    { attr: 'p', length: 7384, path: ['.pad', '7384'] },
    { length: 20_000, path: ['z'] },
  ];
  const layers = new Map([[layerRoot, layer]]);
  return [
    encode({ ...outer, info: single }),
    encode({ ...outer, info: { files, name: 'folder', 'piece length': 16384, pieces, private: 1 } }),
    encode({ ...outer, info: v2, 'piece layers': layers }),
    encode({ info: { ...v2, files: hybridFiles, pieces: new Uint8Array(60) }, 'piece layers': layers }),
  ];
}

function magnets() {
  const v1 = 'magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567';
  return [
    `${v1}&dn=A%20name&tr=http%3A%2F%2Ft.example%2Fannounce&tr.1=udp://t.example:80&ws=http://w.example/&so=0,2,4-8`,
    `magnet:?xt=urn:btmh:1220${'ab'.repeat(32)}&x.pe=1.2.3.4:5&x.pe=[::1]:6&x.pe=host.example:7`,
    'magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH&DN=x',
  ].map(text);
}
