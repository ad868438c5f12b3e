/** Fails loudly on our own bugs, in production too. Never for what a peer, a file or a user did. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`shoal bug: ${what}`);
}
