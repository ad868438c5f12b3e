import { expect, test } from 'vitest';
import { parseProxyUrl } from './proxy-url.ts';

test.each([
  ['socks5://10.0.0.1:1081', { kind: 'socks5', host: '10.0.0.1', port: 1081, user: null, password: null }],
  ['SOCKS5h://p.example', { kind: 'socks5', host: 'p.example', port: 1080, user: null, password: null }],
  ['socks5://me:a%3ab%40c:d@p:1/', { kind: 'socks5', host: 'p', port: 1, user: 'me', password: 'a:b@c:d' }],
  ['socks4a://me@p', { kind: 'socks4', host: 'p', port: 1080, user: 'me', password: null }],
  ['socks4://[::1]:9050', { kind: 'socks4', host: '::1', port: 9050, user: null, password: null }],
  ['http://m%C3%BC:@p.example', { kind: 'http', host: 'p.example', port: 8080, user: 'mü', password: '' }],
])('%s', (text, expected) => {
  expect(parseProxyUrl(text)).toEqual(expected);
});

test.each([
  'p.example:1080',
  'https://secret:secret@p:1',
  'socks5://secret:secret@p:0',
  'socks5://secret:secret@p:65536',
  'socks5://secret:secret@p:1/path',
  'socks5://secret:secret@',
  'socks5://:secret@p',
  'socks5://secret:%zz@p',
  'socks5://secret:%ff@p',
  'socks5://secret:%00@p',
  `socks5://${'secret'.repeat(50)}@p`,
  'socks4://secret:secret@p',
  'http://se%3acret:x@p',
  'socks5://secret@[p.example]:1',
  'socks5://p example:1',
])('refuses %s, and does not repeat it', (text) => {
  const refusal = parseProxyUrl(text);
  expect(typeof refusal).toBe('string');
  expect(refusal).not.toContain('cret');
});
