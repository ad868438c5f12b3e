/** All clients by name. */

import type { Need } from '../available.ts';
import { Aria2 } from './aria2.ts';
import type { Client, Finding, Place } from './client.ts';
import { Libtorrent, ShoalSession, Webtorrent } from './driven.ts';
import { Qbittorrent } from './qbittorrent.ts';
import { Rtorrent } from './rtorrent.ts';
import { Transmission } from './transmission.ts';

export type ClientKind = Extract<
  Need,
  'transmission' | 'qbittorrent' | 'aria2' | 'rtorrent' | 'libtorrent' | 'webtorrent'
>;

const MAKERS: Readonly<Record<ClientKind | 'shoal', new (place: Place, finding: Finding) => Client>> = {
  transmission: Transmission,
  qbittorrent: Qbittorrent,
  aria2: Aria2,
  rtorrent: Rtorrent,
  libtorrent: Libtorrent,
  shoal: ShoalSession,
  webtorrent: Webtorrent,
};

export const CLIENTS = Object.keys(MAKERS).filter((kind) => kind !== 'shoal') as readonly ClientKind[];

export function makeClient(kind: ClientKind | 'shoal', place: Place, finding: Finding = {}): Client {
  return new MAKERS[kind](place, finding);
}
