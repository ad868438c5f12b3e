/** The simulation: the engine's ports over a virtual clock, network, disk and hasher, in one process, from one seed. */

export { bencode, type Plain } from './bencode.ts';
export { PieceDigest } from './content.ts';
export { type DiskKnobs, HEALTHY, SimDisk } from './disk.ts';
export type { HostOptions, NetHost, WireTap } from './host.ts';
export { type NodeOptions, SimNode, SimPorts } from './node.ts';
export { SimTorrent, type SimTorrentSpec } from './torrent.ts';
export { type Announce, SimTracker } from './tracker.ts';
export type { WebReply, WebRequest, WebServer } from './web.ts';
export { World, type WorldOptions } from './world.ts';
