/**
 * Which extension messages (BEP 10) we take from a peer: those we have offered it, at the lengths they may have.
 *
 * Invariant: what was not offered is skipped as it passes, never kept.
 */

import { PeerFault } from '../base/errors.ts';
import { ExtendedId, type OwnHandshake } from './extensions.ts';
import { ADMIT, SKIP } from './framing.ts';
import { MAX_HOLEPUNCH_BYTES } from './holepunch.ts';
import { MAX_PEX_BYTES, PEX_FLOOD_BYTES } from './pex.ts';

export class Offers {
  private metadata = false;
  private pex = false;
  private holepunch = false;

  /** We say this handshake. */
  make(own: OwnHandshake): void {
    this.metadata = !own.privateTorrent;
    this.pex = own.pex && !own.privateTorrent;
    this.holepunch = own.holepunch;
  }

  /** Takes back all that only public torrents offer. */
  withdraw(): void {
    this.metadata = false;
    this.pex = false;
    this.holepunch = false;
  }

  /** ADMIT, SKIP, or a PeerFault. */
  admit(extendedId: number, bodyBytes: number): number {
    switch (extendedId) {
      case ExtendedId.Handshake:
        return ADMIT;
      case ExtendedId.UtMetadata:
        return this.metadata ? ADMIT : SKIP;
      case ExtendedId.DontHave:
        return bodyBytes === 4 ? ADMIT : PeerFault.BadLength;
      case ExtendedId.UploadOnly:
        return bodyBytes === 1 ? ADMIT : PeerFault.BadLength;
      case ExtendedId.UtPex:
        if (bodyBytes > PEX_FLOOD_BYTES) return PeerFault.Flood;
        return this.pex && bodyBytes <= MAX_PEX_BYTES ? ADMIT : SKIP;
      case ExtendedId.Holepunch:
        return this.holepunch && bodyBytes <= MAX_HOLEPUNCH_BYTES ? ADMIT : SKIP;
      default:
        return SKIP;
    }
  }
}
