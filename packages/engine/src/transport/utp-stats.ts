/** What all uTP connections of one socket did, counted since its start. */
export class UtpStats {
  socketCount = 0;
  halfOpenCount = 0;
  packetsIn = 0;
  packetsOut = 0;
  bytesIn = 0;
  bytesOut = 0;
  payloadIn = 0;
  payloadOut = 0;
  /** Packets sent again. */
  resent = 0;
  timeouts = 0;
  duplicatesIn = 0;
  /** Packets that are not as they should be, or acknowledge what was not sent. */
  badIn = 0;
  resetsOut = 0;
  resetsIn = 0;
  synsIn = 0;
  /** Refused: no room, too many of one address, or nobody is let in. */
  synsDropped = 0;
}
