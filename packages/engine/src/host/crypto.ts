/** The Crypto port by OpenSSL. */

import { Ed25519 } from '../base/ed25519.ts';

export class HostCrypto extends Ed25519 {}
