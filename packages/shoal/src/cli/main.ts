/** The command line: what can be typed, and how every command ends. Commands are loaded when they are called. */

import { Command, CommanderError, Option } from 'commander';
import { checked, collect } from './checked.ts';
import { addCompletions, addCompletionsHelp } from './completions.ts';
import { addDht, addPublish, DHT_COMMANDS } from './dht-commands.ts';
import { addDiscoveryOptions } from './discovery-options.ts';
import { ExitCode, failureOf, UsageError } from './exit-code.ts';
import { JsonLines } from './json.ts';
import { addPeerWayOptions } from './network-options.ts';
import * as parse from './parse.ts';
import { addPortOptions } from './port-options.ts';
import { packageVersion } from './version.ts';

/** Runs the command line of this process to its end and sets the exit code. Never rejects. */
export async function start(argv: readonly string[]): Promise<void> {
  process.stdout.on('error', onOutputGone);
  process.stderr.on('error', () => {});
  process.on('uncaughtException', (error) => {
    process.stderr.write(`shoal: ${failureOf(error).message}\n`);
    process.exit(ExitCode.Failed);
  });
  const exitCode = await main(argv);
  process.exitCode = outputFault === ExitCode.Done ? exitCode : outputFault;
  // Nothing should be left open by now; if something is, it does not keep the user waiting.
  setTimeout(() => process.exit(), 3000).unref();
}

let outputGone = false;

/**
 * Whoever read our output left (`shoal info x | head`): stop in order, as if asked to, and only once, because a second time
 * means at once. Where nothing is to be stopped it ends by itself. Output that finds no room is a failure.
 */
function onOutputGone(error: NodeJS.ErrnoException): void {
  if (outputGone) return;
  outputGone = true;
  if (error.code !== 'EPIPE') {
    process.stderr.write(`shoal: the output cannot be written: ${failureOf(error).message}\n`);
    outputFault = failureOf(error).exitCode;
    process.exitCode = outputFault;
  }
  if (process.listenerCount('SIGTERM') > 0) process.kill(process.pid, 'SIGTERM');
}

/** What a command that did all else ends with when its output was lost. */
let outputFault: ExitCode = ExitCode.Done;

export async function main(argv: readonly string[]): Promise<ExitCode> {
  let exitCode: ExitCode = ExitCode.Done;
  const program = makeProgram((code) => {
    exitCode = code;
  });
  try {
    if (argv[0] === 'complete') await addCompletions(program, argv[1]);
    else addCompletionsHelp(program);
    await program.parseAsync(commandFirst(argv), { from: 'user' });
    return exitCode;
  } catch (error) {
    return report(error, argv.includes('--json'));
  }
}

/** `shoal dht --json peers X` is `shoal dht peers --json X`: the options belong to the commands of a group. */
function commandFirst(argv: readonly string[]): readonly string[] {
  if (argv[0] !== 'dht' || argv[1]?.startsWith('-') !== true) return argv;
  const at = argv.findIndex((word, i) => i > 0 && DHT_COMMANDS.includes(word));
  return at < 0 ? argv : ['dht', argv[at]!, ...argv.slice(1, at), ...argv.slice(at + 1)];
}

function report(error: unknown, json: boolean): ExitCode {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return ExitCode.Done;
    // Help that was shown because nothing was typed.
    if (error.code === 'commander.help') return ExitCode.WrongUse;
    const text = error.message
      .replace(/^error: /, '')
      .replace(/\s*\n\s*/g, ' ')
      .replace(/\.$/, '');
    return report(new UsageError(`${text}; see \`shoal --help\``), json);
  }
  const failure = failureOf(error);
  if (json) {
    const lines = new JsonLines();
    lines.failure(failure);
    lines.end(failure.exitCode);
  }
  process.stderr.write(`shoal: ${failure.message}\n`);
  return failure.exitCode;
}

type Done = (exitCode: ExitCode) => void;

export function makeProgram(done: Done): Command {
  const program = new Command('shoal')
    .description('Download, seed, create and verify torrents.')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand(true)
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .configureHelp({ showGlobalOptions: false })
    .showSuggestionAfterError(true)
    .addHelpText('after', ROOT_HELP);
  addGet(program, done);
  addSeed(program, done);
  addCreate(program, done);
  addInfo(program, done);
  addVerify(program, done);
  addPublish(program, done);
  addDht(program, done);
  addDemo(program, done);
  return program;
}

function addGet(program: Command, done: Done): void {
  const command = program
    .command('get')
    .description('download torrents; run again to go on where it stopped')
    .argument('<source...>', '.torrent file, its http(s) URL, magnet link (also of a publisher), info-hash')
    .option('-o, --output <dir>', 'folder to download into', checked('-o', parse.parsePath), '.')
    .option('--peer <host:port>', 'a peer to try; may be repeated', collect('--peer', parse.parsePeer), [])
    .option(
      '--select <list>',
      'only these files, counted as `shoal info` does: 0,2-4',
      checked('--select', parse.parseSelect),
    )
    .option('--seed', 'go on seeding when all is there, until Ctrl-C', false)
    .option('--sequential', 'fetch pieces in order, to watch while it loads', false)
    .option('--down <rate>', 'download limit per second: 512K, 20M, 1.5MiB', checked('--down', parse.parseRate), 0)
    .option(
      '--state <dir>',
      'folder to remember progress in (default: $XDG_STATE_HOME/shoal)',
      checked('--state', parse.parsePath),
    )
    .option('--timeout <seconds>', 'give up when no peer is found in time', checked('--timeout', parse.parseTimeout))
    .option(
      '--follow-every <seconds>',
      "how often to look for a newer version of a publisher's torrent, with --seed (default: 1800)",
      checked('--follow-every', parse.parseInterval),
    )
    .addHelpText('after', GET_HELP)
    .action(async (sources: string[], options) => done(await (await import('./get.ts')).get(sources, options)));
  addTransferOptions(command);
}

function addSeed(program: Command, done: Done): void {
  const command = program
    .command('seed')
    .description('give files you have to others, until Ctrl-C')
    .argument('<torrent>', '.torrent file')
    .argument('<path>', 'the file or folder itself, or the folder that holds it')
    .option('--peer <host:port>', 'a peer to connect to; may be repeated', collect('--peer', parse.parsePeer), [])
    .addHelpText('after', SEED_HELP)
    .action(async (torrent: string, path: string, options) =>
      done(await (await import('./seed.ts')).seed(torrent, path, options)),
    );
  addTransferOptions(command);
}

function addTransferOptions(command: Command): void {
  command.option('--up <rate>', 'upload limit per second', checked('--up', parse.parseRate), 0);
  addNetworkOptions(command);
  addPortOptions(command);
}

function addNetworkOptions(command: Command): void {
  command.option('--port <n>', 'TCP and UDP port to listen on; 0: any', checked('--port', parse.parsePort), 0);
  addPeerWayOptions(command);
  addDiscoveryOptions(command);
  command
    .option(
      '--save-torrent <file>',
      'write the .torrent there as soon as it is known',
      checked('--save-torrent', parse.parsePath),
    )
    .option('--json', 'one JSON object a line on stdout', false);
}

function addCreate(program: Command, done: Done): void {
  program
    .command('create')
    .description('make a .torrent file from a file or folder')
    .argument('<path>', 'file or folder')
    .option('-o, --output <file>', 'where to write it (default: NAME.torrent here)', checked('-o', parse.parsePath))
    .option(
      '--tracker <url>',
      'tracker to announce to; may be repeated',
      collect('--tracker', parse.parseTrackerUrl),
      [],
    )
    .option(
      '--web-seed <url>',
      'web server that has the files; may be repeated',
      collect('--web-seed', parse.parseWebSeedUrl),
      [],
    )
    .option(
      '--piece-size <n>',
      'power of two, 16K to 256M (default: by size)',
      checked('--piece-size', parse.parsePieceSize),
    )
    .option('--private', 'peers only from its trackers', false)
    .option('--v1', 'version 1, for every client (default)', false)
    .option('--v2', 'version 2: a hash tree for each file', false)
    .option('--hybrid', 'both in one', false)
    .option('--comment <text>', 'a comment to put in')
    .option('--json', 'one JSON object a line on stdout', false)
    .addHelpText('after', CREATE_HELP)
    .action(async (path: string, options) => done(await (await import('./create.ts')).create(path, options)));
}

function addInfo(program: Command, done: Done): void {
  const command = program
    .command('info')
    .description('show what is in .torrent files and, by asking peers, behind magnet links')
    .argument('<torrent...>', '.torrent file, magnet link or info-hash')
    .option('--offline', 'ask nobody: show what a magnet link itself says', false)
    .option('--timeout <seconds>', 'how long to ask (default: 60)', checked('--timeout', parse.parseTimeout))
    .option('--peer <host:port>', 'a peer to ask; may be repeated', collect('--peer', parse.parsePeer), [])
    // taken so that the options of `get` fit here: no router is asked anyway
    .addOption(new Option('--no-port-map').hideHelp())
    .addHelpText('after', INFO_HELP)
    .action(async (sources: string[], options) => done(await (await import('./info.ts')).info(sources, options)));
  addNetworkOptions(command);
}

function addVerify(program: Command, done: Done): void {
  program
    .command('verify')
    .description('compare files with a torrent, piece by piece')
    .argument('<torrent>', '.torrent file')
    .argument('<path>', 'the file or folder itself, or the folder that holds it')
    .option('--json', 'one JSON object a line on stdout', false)
    .addHelpText('after', '\nExit code 0: all is good. 1: something is missing or changed.')
    .action(async (torrent: string, path: string, options) =>
      done(await (await import('./verify.ts')).verify(torrent, path, options)),
    );
}

function addDemo(program: Command, done: Done): void {
  program
    .command('demo')
    .description('see it work: a tracker, some seeds and a download, all on this machine')
    .option('--size <n>', 'how much to download', checked('--size', parse.parseSize), 256 * 1024 * 1024)
    .option('--seeds <n>', 'how many seeds, 1 to 16', checked('--seeds', parseSeeds), 3)
    .option('--down <rate>', 'download limit, to watch it longer: 50M', checked('--down', parse.parseRate), 0)
    .action(async (options) => done(await (await import('./demo.ts')).demo(options)));
}

function parseSeeds(text: string): number {
  const count = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > 16) throw new UsageError(`'${text}' is not a number from 1 to 16`);
  return count;
}

const ROOT_HELP = `
Examples:
  shoal demo                                  see it work on this machine
  shoal get debian.torrent -o ~/Downloads     download; the same command resumes
  shoal get 'magnet:?xt=...' --seed           download by magnet link, then seed
  shoal create ./photos --tracker http://tracker.example/announce
  shoal seed photos.torrent ./photos          seed what you have
  shoal info 'magnet:?xt=...'                 what is behind a magnet link, without downloading it

Sizes and rates: 512K, 20M, 1.5MiB. K, M, G and KiB, MiB, GiB count by 1024; KB, MB, GB by 1000.
Exit codes: 0 done, 1 failed (or verify found bad pieces), 2 wrong use, 3 bad torrent or magnet link,
            4 disk trouble, 5 no peers within --timeout, 130 interrupted.
Environment: NO_COLOR turns colours off; XDG_STATE_HOME moves the folder that remembers progress.

\`shoal COMMAND --help\` tells more of each.`;

const GET_HELP = `
Examples:
  shoal get linux.torrent                     into this folder
  shoal get album.torrent --select 0,2-4      some of its files
  shoal get 'magnet:?xt=...' --peer 10.0.0.7:6881 --timeout 60
  shoal get film.torrent --sequential --down 5M
  shoal get 'magnet:?xs=urn:btpk:...'         what a publisher's key stands for now (see \`shoal publish\`);
                                              with --seed also each newer version, which re-uses what is alike
  shoal get 'magnet:?xt=...' --save-torrent film.torrent
  shoal get film.torrent --interface tun0     by this interface, or not at all
  shoal get film.torrent --proxy socks5://127.0.0.1:1080 --anonymous

Peers come from trackers, the DHT, other peers, the local network, the magnet link and --peer. A private torrent asks
its trackers alone. \`progress\` of --json counts in \`sources\` the peers known by each: tracker, dht, pex, lsd, magnet
(with --peer) and incoming.

With --proxy peers, DHT, trackers, URLs and names go through the proxy or not at all; nothing is listened to, mapped or
looked for in the local network. uTP, the DHT and UDP trackers need SOCKS5 and are off without it. --no-proxy-peers and
--no-proxy-trackers let the one or the other out.

Ctrl-C stops cleanly and the same command goes on where it was; Ctrl-C again leaves at once. Only what was verified
and written is ever claimed, even after a crash. With --json stdout holds only JSON lines, of the types listening,
mapped, progress, error, done, end, and with --seed and a publisher's link version (seq), each time it stands for another
torrent; what that one shares with the one before is not downloaded again. --timeout bounds the wait for a first peer, not
the download. Routers are asked to forward the port (PCP, NAT-PMP, UPnP); mapped says where that makes us reachable.`;

const SEED_HELP = `
Examples:
  shoal seed photos.torrent ./photos
  shoal seed photos.torrent . --port 6881 --up 2M

The files are checked first; what is missing or changed is not seeded and never written. Ctrl-C ends it with exit code 0.`;

const INFO_HELP = `
Examples:
  shoal info photos.torrent
  shoal info 'magnet:?xt=...' --timeout 20    the list of files, fetched from peers; nothing is downloaded
  shoal info 'magnet:?xt=...' --save-torrent photos.torrent
  shoal info 'magnet:?xt=...' --offline       what the link itself says

When no peer gives the metadata in time, the link itself is shown and the exit code is 5. Where nobody can be asked at
all, it is shown with a note and exit code 0, unless --timeout or --save-torrent insists. With --json each torrent is
one object of the type torrent, each link that is all there is to know of it one of the type magnet.`;

const CREATE_HELP = `
Examples:
  shoal create ./photos --tracker http://tracker.example/announce
  shoal create film.mkv --hybrid --piece-size 4M -o film.torrent

Each --tracker is a tier of its own: the first that works is used. Empty folders have no place in a torrent.`;
