/** The codec on its own: bencoding, torrents, magnets, peer ids, without a network in sight. */

export {
  BDict,
  BencodeError,
  type BencodeLimits,
  type BInput,
  type BValue,
  decode,
  decodePrefix,
  encode,
} from './bencode.ts';
export { infoHashV1, infoHashV2, swarmHashOf } from './infohash.ts';
export { Layout, type Span } from './layout.ts';
export { Metainfo, type ParseExtra, parseInfo, parseTorrent, type TorrentFile } from './metainfo.ts';
