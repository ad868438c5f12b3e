/** The Crypto port by the platform's OpenSSL: for the host, and for the simulation, whose numbers are as good as any. */

import { Ed25519 } from './ed25519.ts';
import { msePublic, mseShared } from './mse-group.ts';
import type { Crypto } from './ports.ts';

export class PlatformCrypto extends Ed25519 implements Crypto {
  msePublic(exponent: Uint8Array): Uint8Array {
    return msePublic(exponent);
  }

  mseShared(exponent: Uint8Array, remote: Uint8Array): Uint8Array | null {
    return mseShared(exponent, remote);
  }
}
