/** URLs of trackers and web seeds as strangers give them: trimmed, schemes known, doubles removed. */

/** Schemes that trackers are reached by: HTTP (BEP 3), UDP (BEP 15), WebSocket (WebTorrent). */
const TRACKER = /^(?:https?|udp|wss?):\/\/[^\s/]/i;
/** Longer than any server takes; bounds what a hostile torrent can make others keep. */
const MAX_URL = 4096;

/** Tiers without blanks, unknown schemes, doubles and empty tiers. */
export function cleanTrackers(tiers: readonly (readonly string[])[]): string[][] {
  const seen = new Set<string>();
  const cleaned: string[][] = [];
  for (const tier of tiers) {
    const kept: string[] = [];
    for (const given of tier) {
      const url = given.trim();
      if (!isTrackerUrl(url) || seen.has(url)) continue;
      seen.add(url);
      kept.push(url);
    }
    if (kept.length > 0) cleaned.push(kept);
  }
  return cleaned;
}

export function isTrackerUrl(url: string): boolean {
  return url.length <= MAX_URL && TRACKER.test(url);
}

export function isWebSeedUrl(url: string): boolean {
  return url.length <= MAX_URL && /^https?:\/\/[^\s/]/i.test(url);
}

/** With blanks and other bytes outside ASCII percent-encoded; a URL for many files ends in '/' (BEP 19). */
export function webSeedUrl(url: string, manyFiles: boolean): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: controls are what it looks for
  const encoded = url.replace(/[\u0000-\u0020"<>\\^`{|}\u007f-\u{10ffff}]+/gu, (text) => encodeURIComponent(text));
  return manyFiles && !encoded.endsWith('/') ? `${encoded}/` : encoded;
}
