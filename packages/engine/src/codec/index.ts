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
  RawBencode,
} from './bencode.ts';
export {
  buildTorrent,
  choosePieceLength,
  leafCountOf,
  type PlannedFile,
  planTorrent,
  type SourceFile,
  type TorrentDigests,
  type TorrentFormat,
  type TorrentPlan,
  type TorrentSpec,
} from './create.ts';
export { infoHashV1, infoHashV2, swarmHashOf } from './infohash.ts';
export { Layout, type Span } from './layout.ts';
export {
  formatMagnet,
  formatPublisher,
  type Magnet,
  type MagnetParts,
  type Publisher,
  parseMagnet,
  parsePublisher,
} from './magnet.ts';
export { merkleLayer, merkleProof, merkleRoot, padHash, verifyProof } from './merkle.ts';
export { Metainfo, type ParseExtra, parseInfo, parseTorrent, type TorrentFile } from './metainfo.ts';
export { clientName, makePeerId, PEER_ID_PREFIX } from './peer-id.ts';
export { isSafeComponent, safeComponent } from './safe-path.ts';
