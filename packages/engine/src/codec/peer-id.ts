/**
 * Peer ids: making our own and reading others' (BEP 20). Ours is Azureus style, `-SL0100-` and 12 random bytes.
 *
 * The letters are "SL". No client has them in the lists of BEP 20, libtorrent (identify_client), Transmission
 * (clients.cc) and webtorrent (bittorrent-peerid), while the near ones are taken: SB Swiftbit, SD Xunlei, SG GS Torrent,
 * SK Spark, SM SoMud, SN ShareNet, SP BitSpirit, SS SwarmScope, ST SymTorrent, SZ and S~ Shareaza. Trackers keep lists
 * by these letters, so they never change.
 */

import { latin1, utf8Encode } from '../base/bytes.ts';
import type { Rng } from '../base/random.ts';

export const PEER_ID_BYTES = 20;
/** Two-letter code and version 0.1.0.0 of this client. */
export const PEER_ID_PREFIX = '-SL0100-';

/** A fresh id; the random part is printable, since some trackers mangle the rest. */
export function makePeerId(random: Rng | { fill(target: Uint8Array): void }): Uint8Array {
  const id = new Uint8Array(PEER_ID_BYTES);
  const prefix = utf8Encode(PEER_ID_PREFIX);
  const tail = id.subarray(prefix.length);
  random.fill(tail);
  for (let i = 0; i < tail.length; i++) tail[i] = LETTERS.charCodeAt(tail[i]! & 63);
  id.set(prefix);
  return id;
}

/** One that names no program: all of it is random. */
export function makeNamelessPeerId(random: Rng | { fill(target: Uint8Array): void }): Uint8Array {
  const id = new Uint8Array(PEER_ID_BYTES);
  random.fill(id);
  for (let i = 0; i < id.length; i++) id[i] = LETTERS.charCodeAt(id[i]! & 63);
  return id;
}

/** What a peer id says its client is, for display: "qBittorrent 4.6.2", or "unknown (…)" with its printable beginning. */
export function clientName(peerId: Uint8Array): string {
  const id = latin1(peerId.subarray(0, PEER_ID_BYTES));
  if (id.length === PEER_ID_BYTES) {
    const known = special(id) ?? azureus(id) ?? mainline(id) ?? shadow(id);
    if (known !== null) return known;
  }
  let start = '';
  for (let i = 0; i < Math.min(8, id.length); i++) {
    const c = id.charCodeAt(i);
    start += c > 32 && c < 127 ? id[i] : '.';
  }
  return `unknown (${start})`;
}

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_';
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-';

/** `-XXabcd-`: two letters and four characters of version. */
function azureus(id: string): string | null {
  if (id[0] !== '-' || !/^[A-Za-z0-9~][A-Za-z0-9~ _]$/.test(id.slice(1, 3))) return null;
  const code = id.slice(1, 3);
  const name = AZUREUS.get(code);
  const version = id.slice(3, 7);
  if (code === 'TR') return `${name} ${transmissionVersion(version)}`;
  // µTorrent and the official client write the build after the version and have no second dash
  const dashed = id[7] === '-' || code === 'UT' || code === 'BT' || code === 'UM' || code === 'UW' || code === 'UE';
  if (!dashed) return null;
  if (name === undefined) return /^[\w.~]{4}$/.test(version) ? `${code} ${dotted(version, 4)}` : null;
  if (code === 'WW' || code === 'WD') return `${name} ${webtorrentVersion(version)}`;
  if (code === 'UT' || code === 'UM' || code === 'UW' || code === 'UE' || code === 'BT') {
    return `${name} ${dotted(version, 3)}`;
  }
  if (code === 'DE') return `${name} ${dotted(version, 3)}`;
  return /^[0-9A-Za-z.-]{4}$/.test(version) ? `${name} ${dotted(version, 4)}` : name;
}

/** Up to `parts` numbers, one per character, without the zeros at the end past the second. */
function dotted(version: string, parts: number): string {
  const numbers: number[] = [];
  for (let i = 0; i < parts; i++) numbers.push(Math.max(0, DIGITS.indexOf(version[i]!)));
  while (numbers.length > 2 && numbers[numbers.length - 1] === 0) numbers.pop();
  return numbers.join('.');
}

/** 0072 -> 0.72, 2940 -> 2.94, 300B -> 3.00 beta, 4050 -> 4.0.5. */
function transmissionVersion(v: string): string {
  if (v.startsWith('000')) return `0.${v[3]}`;
  if (v.startsWith('00')) return `0.${v.slice(2)}`;
  const beta = v[3] === 'Z' || v[3] === 'X' || v[3] === 'B' ? ' beta' : '';
  if (v.charCodeAt(0) >= 52 && v.charCodeAt(0) <= 57) return `${dotted(v, 3)}${beta}`;
  return `${v[0]}.${v.slice(1, 3)}${beta}`;
}

/** 0208 -> 2.8: two digits each. */
function webtorrentVersion(v: string): string {
  return /^\d{4}$/.test(v) ? `${Number(v.slice(0, 2))}.${Number(v.slice(2))}` : v;
}

/** Ids that follow no common scheme. */
function special(id: string): string | null {
  for (const [text, name] of SPECIAL) if (id.startsWith(text)) return name;
  const aria = /^A2-(\d{1,2})-(\d{1,3})-(\d{1,2})-/.exec(id);
  if (aria !== null) return `aria2 ${aria[1]}.${aria[2]}.${aria[3]}`;
  if (/^TIX\d{4}/.test(id)) return `Tixati ${Number(id.slice(3, 5))}.${id.slice(5, 7)}`;
  if (/^OP\d{4}/.test(id)) return `Opera ${id.slice(2, 6)}`;
  if (/^(?:exbc|FUTB|xUTB)/.test(id)) {
    const name = id.startsWith('LORD', 6) ? 'BitLord' : 'BitComet';
    return `${name} ${id.charCodeAt(4)}.${String(id.charCodeAt(5)).padStart(2, '0')}`;
  }
  if (/^XBT\d{3}/.test(id)) return `XBT Client ${id[3]}.${id[4]}.${id[5]}`;
  if (id.startsWith('-ML')) return `MLdonkey ${id.slice(3, 8).replace(/[^0-9.]+$/, '')}`;
  if (id.startsWith('\0') && id.startsWith('BS', 2)) return `BitSpirit ${Math.max(1, id.charCodeAt(1))}`;
  return null;
}

/** `M4-3-6--`: a letter, numbers between dashes. */
function mainline(id: string): string | null {
  const found = /^([MQ])(\d{1,2})-(\d{1,2})-(\d{1,2})-/.exec(id);
  if (found === null) return null;
  return `${found[1] === 'M' ? 'BitTorrent' : 'Queen Bee'} ${found[2]}.${found[3]}.${found[4]}`;
}

/** `S58B-----`: a letter, up to five characters of version, dashes. */
function shadow(id: string): string | null {
  const found = /^([A-Za-z])([0-9A-Za-z.-]{3,5})---/.exec(id) ?? /^([A-Za-z])([0-9A-Za-z.-]{5})--/.exec(id);
  const name = found === null ? undefined : SHADOW.get(found[1]!);
  if (found === null || name === undefined) return null;
  const digits = found[2]!.replace(/-+$/, '');
  return digits === '' ? name : `${name} ${[...digits].map((c) => DIGITS.indexOf(c)).join('.')}`;
}

const AZUREUS: ReadonlyMap<string, string> = new Map([
  ['7T', 'aTorrent'],
  ['A2', 'aria2'],
  ['A~', 'Ares'],
  ['AB', 'AnyEvent BitTorrent'],
  ['AG', 'Ares'],
  ['AN', 'Ares'],
  ['AR', 'Arctic'],
  ['AT', 'Artemis'],
  ['AV', 'Avicora'],
  ['AX', 'BitPump'],
  ['AZ', 'Vuze'],
  ['BB', 'BitBuddy'],
  ['BC', 'BitComet'],
  ['BE', 'BitTorrent SDK'],
  ['BF', 'BitFlu'],
  ['BG', 'BTG'],
  ['BI', 'BiglyBT'],
  ['BL', 'BitLord'],
  ['BM', 'BitMagnet'],
  ['BN', 'Baidu Netdisk'],
  ['BP', 'BitTorrent Pro'],
  ['BR', 'BitRocket'],
  ['BS', 'BTSlave'],
  ['BT', 'BitTorrent'],
  ['BW', 'BitWombat'],
  ['BX', 'BittorrentX'],
  ['CD', 'Enhanced CTorrent'],
  ['CS', 'SpringTorrent'],
  ['CT', 'CTorrent'],
  ['DE', 'Deluge'],
  ['DP', 'Propagate'],
  ['EB', 'EBit'],
  ['ES', 'Electric Sheep'],
  ['FC', 'FileCroc'],
  ['FD', 'Free Download Manager'],
  ['FG', 'FlashGet'],
  ['FL', 'Folx'],
  ['FT', 'FoxTorrent'],
  ['FW', 'FrostWire'],
  ['FX', 'Freebox'],
  ['GR', 'GetRight'],
  ['GS', 'GSTorrent'],
  ['GT', 'go.torrent'],
  ['HK', 'Hekate'],
  ['HL', 'Halite'],
  ['HN', 'Hydranode'],
  ['HM', 'hMule'],
  ['IL', 'iLivid'],
  ['JS', 'Justseed.it'],
  ['JT', 'JavaTorrent'],
  ['KG', 'KGet'],
  ['KT', 'KTorrent'],
  ['LC', 'LeechCraft'],
  ['LH', 'LH-ABC'],
  ['LK', 'Linkage'],
  ['LP', 'Lphant'],
  ['LR', 'LibreTorrent'],
  ['LT', 'libtorrent'],
  ['LW', 'LimeWire'],
  ['MG', 'MediaGet'],
  ['MK', 'Meerkat'],
  ['MO', 'MonoTorrent'],
  ['MP', 'MooPolice'],
  ['MR', 'Miro'],
  ['MT', 'Moonlight'],
  ['NE', 'BT Next Evolution'],
  ['NX', 'Net Transport'],
  ['OS', 'OneSwarm'],
  ['OT', 'OmegaTorrent'],
  ['PC', 'CacheLogic'],
  ['PD', 'Pando'],
  ['PI', 'PicoTorrent'],
  ['PT', 'Popcorn Time'],
  ['QD', 'QQDownload'],
  ['QT', 'Qt 4 Torrent'],
  ['RS', 'Rufus'],
  ['RT', 'Retriever'],
  ['RZ', 'RezTorrent'],
  ['SB', 'Swiftbit'],
  ['SD', 'Xunlei'],
  ['SG', 'GS Torrent'],
  ['SK', 'Spark'],
  ['SL', 'Shoal'],
  ['SM', 'SoMud'],
  ['SN', 'ShareNet'],
  ['SP', 'BitSpirit'],
  ['SS', 'SwarmScope'],
  ['ST', 'SymTorrent'],
  ['SZ', 'Shareaza'],
  ['S~', 'Shareaza beta'],
  ['TB', 'Torch'],
  ['TL', 'Tribler'],
  ['TN', 'Torrent.NET'],
  ['TR', 'Transmission'],
  ['TS', 'TorrentStorm'],
  ['TT', 'TuoTu'],
  ['TX', 'Tixati'],
  ['UE', 'µTorrent Embedded'],
  ['UL', 'uLeecher!'],
  ['UM', 'µTorrent for Mac'],
  ['UT', 'µTorrent'],
  ['UW', 'µTorrent Web'],
  ['VG', 'Vagaa'],
  ['WD', 'WebTorrent Desktop'],
  ['WT', 'BitLet'],
  ['WW', 'WebTorrent'],
  ['WY', 'FireTorrent'],
  ['XF', 'Xfplay'],
  ['XL', 'Xunlei'],
  ['XS', 'XSwifter'],
  ['XT', 'XanTorrent'],
  ['XX', 'Xtorrent'],
  ['ZO', 'Zona'],
  ['ZT', 'ZipTorrent'],
  ['bk', 'BitKitten'],
  ['lt', 'libTorrent (rakshasa)'],
  ['pb', 'pbTorrent'],
  ['pX', 'pHoeniX'],
  ['qB', 'qBittorrent'],
  ['rq', 'rqbit'],
  ['st', 'SharkTorrent'],
]);

const SHADOW: ReadonlyMap<string, string> = new Map([
  ['A', 'ABC'],
  ['O', 'Osprey Permaseed'],
  ['Q', 'BTQueue'],
  ['R', 'Tribler'],
  ['S', 'Shadow'],
  ['T', 'BitTornado'],
  ['U', 'UPnP NAT BitTorrent'],
]);

const SPECIAL: readonly (readonly [string, string])[] = [
  ['-BOW', 'Bits on Wheels'],
  ['-G3', 'G3 Torrent'],
  ['-Qt-', 'Qt'],
  ['-WS', 'HTTP seed'],
  ['-aria2-', 'aria2'],
  ['10-------', 'JVtorrent'],
  ['346-', 'TorrentTopia'],
  ['AZ2500BT', 'BitTyrant'],
  ['BLZ', 'Blizzard Downloader'],
  ['DNA', 'BitTorrent DNA'],
  ['LIME', 'LimeWire'],
  ['Mbrst', 'burst!'],
  ['Pando', 'Pando'],
  ['Plus', 'BitTorrent Plus!'],
  ['QVOD', 'QVOD'],
  ['S3-', 'Amazon S3'],
  ['T00---0', 'Teeweety'],
  ['a00---0', 'Swarmy'],
  ['a02---0', 'Swarmy'],
  ['btpd', 'BitTorrent Protocol Daemon'],
  ['eX', 'eXeem'],
  ['martini', 'Martini Man'],
  ['turbobt', 'TurboBT'],
];
