/** What can be typed after `shoal dht` and `shoal publish`. */

import { type Command, Option } from 'commander';
import { checked, collect } from './checked.ts';
import type { ExitCode } from './exit-code.ts';
import { addWayOptions } from './network-options.ts';
import * as parse from './parse.ts';

type Done = (exitCode: ExitCode) => void;

export const DHT_COMMANDS: readonly string[] = ['get', 'put', 'peers', 'scrape', 'nodes'];

export function addDht(program: Command, done: Done): void {
  const dht = program
    .command('dht')
    .description('ask the DHT by hand, and store small values in it')
    .addHelpText('after', DHT_HELP);
  const get = dht
    .command('get')
    .description('print a value that is stored there')
    .argument('<name>', 'target (40 hex digits), public key (64), or magnet link of a publisher')
    .option('--salt <text>', 'which of the values of a public key', checked('--salt', parse.parseSalt))
    .option('--bencode', 'print the value as it is stored, bencoded', false)
    .action(async (name: string, options) => done(await (await import('./dht.ts')).dhtGet(name, options)));
  const put = dht
    .command('put')
    .description('store a value there, by its hash or, with --key, by a public key')
    .argument('<value>', "text of at most 1000 bytes; '-': what stands on stdin")
    .option(
      '--key <file>',
      'sign it with the key in this file; it can be replaced later',
      checked('--key', parse.parsePath),
    )
    .option('--new-key', 'make the key first', false)
    .option('--salt <text>', 'tells apart several values of one key', checked('--salt', parse.parseSalt))
    .option('--seq <n>', 'its number (default: the newest found and 1)', checked('--seq', parse.parseSeq))
    .option('--cas <n>', 'only where the newest has this number', checked('--cas', parse.parseSeq))
    .option('--bencode', 'VALUE is bencoded already', false)
    .action(async (value: string, options) => done(await (await import('./dht.ts')).dhtPut(value, options)));
  const peers = dht
    .command('peers')
    .description('print addresses of peers that have a torrent')
    .argument('<infohash>', INFO_HASH)
    .action(async (name: string, options) => done(await (await import('./dht.ts')).dhtPeers(name, options)));
  const scrape = dht
    .command('scrape')
    .description('estimate how many seeds and peers a torrent has')
    .argument('<infohash>', INFO_HASH)
    .action(async (name: string, options) => done(await (await import('./dht.ts')).dhtScrape(name, options)));
  const nodes = dht
    .command('nodes')
    .description('join, and print the nodes that answered')
    .action(async (options) => done(await (await import('./dht.ts')).dhtNodes(options)));
  for (const command of [get, put, peers, scrape, nodes]) addDhtOptions(command);
}

export function addPublish(program: Command, done: Done): void {
  const command = program
    .command('publish')
    .description('let the link of a key stand for a torrent; those who have the link follow')
    .argument('<torrent>', '.torrent file, magnet link or info-hash')
    .requiredOption('--key <file>', 'the key to sign with', checked('--key', parse.parsePath))
    .option('--new-key', 'make the key first', false)
    .option('--salt <text>', 'tells apart several links of one key', checked('--salt', parse.parseSalt))
    .option(
      '--every [seconds]',
      'stay, and put it again so often (default: 3600), until Ctrl-C',
      checked('--every', parse.parseInterval),
    )
    .addHelpText('after', PUBLISH_HELP)
    .action(async (torrent: string, options) =>
      done(await (await import('./publish.ts')).publish(torrent, { ...options, every: everyOf(options.every) })),
    );
  addDhtOptions(command);
}

const HOUR_MS = 3_600_000;

/** The flag alone is true. */
function everyOf(every: number | true | undefined): number | undefined {
  return every === true ? HOUR_MS : every;
}

const INFO_HASH = 'info-hash, magnet link or .torrent file';

function addDhtOptions(command: Command): void {
  command
    .option(
      '--bootstrap <host:port>',
      'node to begin with instead of the public ones; may be repeated',
      collect('--bootstrap', parse.parseNode),
      [],
    )
    .option('--port <n>', 'UDP port; 0: any', checked('--port', parse.parsePort), 0)
    .addOption(
      new Option('--timeout <seconds>', 'how long to try')
        .argParser(checked('--timeout', parse.parseTimeout))
        .default(30_000, '30'),
    )
    .option('--json', 'one JSON object a line on stdout', false);
  addWayOptions(command);
}

const DHT_HELP = `
Examples:
  shoal dht peers 0123456789abcdef0123456789abcdef01234567
  shoal dht put 'high water at noon'                      prints the target to get it by
  shoal dht get 0123456789abcdef0123456789abcdef01234567
  shoal dht put 'high water at one' --key tide.key --new-key --salt today
  shoal dht get PUBLICKEY --salt today

A value lives two hours unless it is put again. A key file holds 64 hex digits, the secret seed of an ed25519 key.
With --json stdout holds one object of the command's type, then \`end\`:
  peers   infoHash, peers (host:port)
  item    target, publicKey, salt (hex), seq, signature (hex), value (text, numbers, lists, objects; other bytes as
          {"hex": ...}), bencode (the value as stored, in hex); after put: target, publicKey, salt, seq, stored (nodes)
  scrape  infoHash, seeds, peers, nodes (that gave figures)
  nodes   nodes (id, host, port)
Exit codes: 0 done (also without any peer), 1 not found or not stored, 2 wrong use, 5 no node answered in time.`;

const PUBLISH_HELP = `
Examples:
  shoal publish photos.torrent --key photos.key --new-key      prints magnet:?xs=urn:btpk:...
  shoal publish photos-2.torrent --key photos.key --every      the link now stands for this one
  shoal get 'magnet:?xs=urn:btpk:...'                          gets what it stands for

The DHT forgets it after two hours unless it is put again; --every does that. Whoever has the key file can change what
the link stands for: keep it, and keep it secret. With --json one object of the type published each time it is put:
infoHash, link, publicKey, salt (hex), target, seq, stored (nodes).`;
