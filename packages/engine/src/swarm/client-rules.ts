/**
 * Which programs a session speaks with: rules by name and version, the first that fits decides; who fits none is let in. A
 * name is what the peer says of itself, so this keeps out the clumsy, not the hostile.
 */

export interface ClientRule {
  readonly action: 'allow' | 'deny';
  /** The beginning of the name, any case: "Xunlei", "Transmission"; empty: everybody. */
  readonly client: string;
  /** Only versions from here on: "3.0". */
  readonly from?: string;
  /** Only versions before this one. */
  readonly below?: string;
}

/** What does not count as a part of a version. */
const NO_VERSION: readonly number[] = [];

export class ClientRules {
  readonly #rules: readonly ClientRule[];

  constructor(rules: readonly ClientRule[]) {
    this.#rules = rules;
  }

  /** `name`: as shown, "qBittorrent 4.6.2" or "libtorrent/2.0.8". */
  allows(name: string): boolean {
    for (const rule of this.#rules) if (fits(rule, name)) return rule.action === 'allow';
    return true;
  }
}

function fits(rule: ClientRule, name: string): boolean {
  if (!name.toLowerCase().startsWith(rule.client.toLowerCase())) return false;
  if (rule.from === undefined && rule.below === undefined) return true;
  const version = versionOf(name.slice(rule.client.length));
  // of a version that is not said nothing is known
  if (version.length === 0) return false;
  if (rule.from !== undefined && compare(version, versionOf(rule.from)) < 0) return false;
  return rule.below === undefined || compare(version, versionOf(rule.below)) < 0;
}

/** The first run of numbers with dots. */
function versionOf(text: string): readonly number[] {
  const found = /\d+(?:\.\d+){0,7}/.exec(text.slice(0, 64));
  return found === null ? NO_VERSION : found[0].split('.').map(Number);
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
