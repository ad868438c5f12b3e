import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ExitCode, failureOf, UsageError } from './exit-code.ts';
import { main } from './main.ts';

let out = '';
let err = '';

beforeEach(() => {
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += String(text);
    return true;
  });
});
afterEach(() => void vi.restoreAllMocks());

describe('wrong use', () => {
  it.each([
    [['get']],
    [['fetch', 'x']],
    [['get', 'x.torrent', '--peers', 'a:1']],
    [['get', 'x.torrent', '--down', 'fast']],
    [['get', 'x.torrent', '--port', '70000']],
    [['get', 'x.torrent', '--peer', 'nowhere']],
    [['get', 'x.torrent', '--select', '4-2']],
    [['get', 'x.torrent', '--bind', 'eth0']],
    [['get', 'x.torrent', '--bind', '10.0.0.1', '--interface', 'eth0']],
    [['get', 'x.torrent', '--transport', 'sctp']],
    [['seed', 'x.torrent', '.', '--encryption', 'rot13']],
    [['get', 'x.torrent', '--no-proxy-peers']],
    [['dht', 'peers', 'a'.repeat(40), '--proxy', 'proxy:1080']],
    [['dht', 'nodes', '--proxy', 'https://proxy:1080']],
    [['dht', 'nodes', '--proxy', 'socks5://proxy:1080', '--no-proxy-peers']],
    [['get', 'x.torrent', '--timeout', 'soon']],
    [['seed', 'x.torrent']],
    [['seed', 'x.torrent', 'a', 'b']],
    [['create', 'x', '--piece-size', '17K']],
    [['create', 'x', '--tracker', 'nope']],
    [['verify', 'x.torrent']],
    [['info']],
    [['get', 'x.torrent', '--dht-bootstrap', 'nowhere']],
    [['get', 'x.torrent', '--dht-port', '70000']],
    [['get', 'x.torrent', '--no-dht', '--dht-bootstrap', 'a:1']],
    [['seed', 'x.torrent', '.', '--no-dht', '--dht-port', '5']],
    [['get', 'a'.repeat(40), 'b'.repeat(40), '--save-torrent', 'x']],
    [['info', `magnet:?xt=urn:btih:${'a'.repeat(40)}`, '--offline', '--save-torrent', 'x']],
    [['dht', 'fetch']],
    [['dht', 'get', 'abc']],
    [['dht', 'get', 'a'.repeat(40), '--salt', 's']],
    [['dht', 'get', 'a'.repeat(64), '--salt', 's'.repeat(65)]],
    [['dht', 'get', 'a'.repeat(40), '--bootstrap', '127.0.0.1']],
    [['dht', 'put', 'x'.repeat(1000)]],
    [['dht', 'put', 'i01e', '--bencode']],
    [['dht', 'put', 'd1:bi1e1:ai2ee', '--bencode']],
    [['dht', 'put', 'x', '--salt', 's']],
    [['dht', 'put', 'x', '--seq', '1']],
    [['dht', 'put', 'x', '--cas', '1']],
    [['dht', 'put', 'x', '--new-key']],
    [['dht', 'put', 'x', '--key', 'missing.key']],
    [['dht', 'put', 'x', '--key', 'missing.key', '--seq', '-1']],
    [['dht', 'peers', 'a'.repeat(39)]],
    [['dht', 'peers', 'http://t.example/x.torrent']],
    [['dht', 'scrape', 'a'.repeat(40), '--timeout', '0']],
    [['dht', 'nodes', 'more']],
    [['dht', '--bootstrap', '127.0.0.1:5', 'peers', 'a'.repeat(39)]],
    [['publish', 'a'.repeat(40)]],
    [['publish', 'a'.repeat(40), '--key', 'missing.key', '--every', '0.5']],
    [['get', 'x.torrent', '--follow-every', 'daily']],
    [['publish', 'a'.repeat(64), '--key', 'k']],
    [['publish', 'a'.repeat(40), '--key', 'missing.key']],
  ])('%j ends with 2 and one clear line', async (argv) => {
    expect(await main(argv)).toBe(ExitCode.WrongUse);
    expect(err).toMatch(/^shoal: .+\n$/);
    expect(out).toBe('');
  });

  it('names the option and what it takes', async () => {
    await main(['get', 'x', '--down', 'fast']);
    expect(err).toContain("--down: 'fast' is not a size; write 512K");
  });

  it.each([
    [['dht', 'peers', 'nothing.torrent'], 'nothing.torrent: no such file'],
    [['dht', 'scrape', 'magnet:?dn=x'], "no 'xt=urn:btih:'"],
    [['get', 'magnet:?xs=urn:btpk:abc'], 'not 64 hex digits'],
    [['dht', 'get', `magnet:?xs=urn:btpk:${'a'.repeat(64)}&s=xyz`], 'salt'],
    [['publish', 'nothing.torrent', '--key', 'k'], 'nothing.torrent: no such file'],
  ])('%j ends with 3: the torrent or link is bad', async (argv, what) => {
    expect(await main(argv)).toBe(ExitCode.BadSource);
    expect(err).toMatch(/^shoal: .+\n$/);
    expect(err).toContain(what);
  });

  it('speaks JSON when asked to', async () => {
    expect(await main(['get', 'x', '--json', '--port', 'x'])).toBe(ExitCode.WrongUse);
    const lines = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toEqual([
      { v: 1, type: 'error', code: 'usage', message: expect.stringContaining('--port') },
      { v: 1, type: 'end', exitCode: 2 },
    ]);
  });
});

describe('help', () => {
  it('lists every command, the exit codes and examples', async () => {
    expect(await main(['--help'])).toBe(ExitCode.Done);
    for (const part of [
      'get',
      'seed',
      'create',
      'info',
      'verify',
      'publish',
      'dht',
      'demo',
      'complete',
      'Exit codes',
      '130',
      'Examples',
    ]) {
      expect(out).toContain(part);
    }
    expect(err).toBe('');
  });

  it('has a page for each command', async () => {
    for (const command of ['get', 'seed', 'create', 'info', 'verify', 'publish', 'dht', 'demo']) {
      out = '';
      expect(await main([command, '--help'])).toBe(ExitCode.Done);
      expect(out).toContain(`Usage: shoal ${command}`);
    }
  });

  it('is what a group of commands alone shows, as wrong use', async () => {
    expect(await main(['dht'])).toBe(ExitCode.WrongUse);
    expect(err).toContain('Usage: shoal dht');
  });

  it('has a page for each command of dht', async () => {
    for (const command of ['get', 'put', 'peers', 'scrape', 'nodes']) {
      out = '';
      expect(await main(['dht', command, '--help'])).toBe(ExitCode.Done);
      expect(out).toContain(`Usage: shoal dht ${command}`);
      expect(out).toContain('--bootstrap');
    }
  });

  it('prints the version', async () => {
    expect(await main(['--version'])).toBe(ExitCode.Done);
    expect(out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('failures', () => {
  it('map to the documented exit codes', () => {
    const shoal = (code: string): Error => Object.assign(new Error('x'), { name: 'ShoalError', code });
    expect(failureOf(new UsageError('x')).exitCode).toBe(2);
    expect(failureOf(shoal('bad-torrent')).exitCode).toBe(3);
    expect(failureOf(shoal('bad-magnet')).exitCode).toBe(3);
    expect(failureOf(shoal('disk')).exitCode).toBe(4);
    expect(failureOf(shoal('no-peers')).exitCode).toBe(5);
    expect(failureOf(shoal('aborted')).exitCode).toBe(130);
    expect(failureOf(shoal('in-use')).exitCode).toBe(1);
    const system = (code: string, syscall: string): Error =>
      Object.assign(new Error('x'), { code, syscall, path: '/p' });
    expect(failureOf(system('ENOSPC', 'write'))).toMatchObject({ exitCode: 4, code: 'disk' });
    expect(failureOf(system('EADDRINUSE', 'listen'))).toMatchObject({ exitCode: 1, code: 'network' });
  });

  it('are one line without escapes', () => {
    expect(failureOf(new Error('a\nb\x1b[31mc')).message).toBe('internal error: a bc');
    expect(failureOf('text').exitCode).toBe(1);
  });
});
