/** The simulation: the engine's ports over a virtual clock, network, disk and hasher, in one process, from one seed. */

export { bencode, type Plain } from './bencode.ts';
export { checkSession, checkStopped } from './checkers.ts';
export { PieceDigest } from './content.ts';
export { DhtFlood } from './dht-flood.ts';
export { DhtMachine, type DhtMachineOptions } from './dht-machine.ts';
export { type DhtHost, DhtNet } from './dht-net.ts';
export { DhtPopulation, type DhtStormOptions, type DhtStormReport, runDhtStorm } from './dht-storm.ts';
export { type DiskKnobs, HEALTHY, SimDisk } from './disk.ts';
export { FakeHost, type FakeMessage, FakePeer, Msg, type Script } from './fake-peer.ts';
export type { HostOptions, NetHost, WireTap } from './host.ts';
export { HOSTILE_KINDS, type HostileKind, hostileScript, type SeedOptions, seedScript } from './hostile.ts';
export type { NatKind } from './nat.ts';
export { type NodeOptions, SimNode, SimPorts } from './node.ts';
export { SIM_FOLDER, SimSession, type SimSessionOptions } from './sim-session.ts';
export { describe, runStorm, type StormReport } from './storm.ts';
export type { StormOptions } from './storm-plan.ts';
export { SimTorrent, type SimTorrentSpec } from './torrent.ts';
export { type Announce, SimTracker } from './tracker.ts';
export type { UdpPath, UdpTap } from './udp.ts';
export type { WebReply, WebRequest, WebServer } from './web.ts';
export { WireCheck } from './wire-check.ts';
export { World, type WorldOptions } from './world.ts';
