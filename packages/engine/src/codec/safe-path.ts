/**
 * Makes names from strangers safe to create (BEP 3 `path`, `name`; BEP 52 keys). A name is changed rather than refused;
 * what is changed depends on the bytes alone, never on the platform, so that state and folders move between machines.
 *
 * A safe component: 1..255 bytes of UTF-8; no separator, control, zero-width or bidi character; not '.', '..', nor a
 * name that Windows gives to devices; no drive letter; no '.' or ' ' at the end. `distinctPaths` then makes all files'
 * paths differ even where case does not count, and no file stand where a folder must.
 */

import { utf8Decode, utf8Encode } from '../base/bytes.ts';

/** What a file system takes at most for one name (ext4, XFS, APFS: 255 bytes; NTFS: 255 UTF-16 units). */
export const MAX_COMPONENT_BYTES = 255;

/** A safe component; '_' where nothing is left. Bad UTF-8 becomes '_'. */
export function safeComponent(bytes: Uint8Array): string {
  return cleaned(bytes) || '_';
}

/** A torrent's name made safe, or null where nothing is left of it. */
export function safeName(bytes: Uint8Array): string | null {
  return cleaned(bytes) || null;
}

/** Whether a component needs nothing done to it. */
export function isSafeComponent(text: string): boolean {
  return text !== '' && cleaned(utf8Encode(text)) === text;
}

/** Shortens to `maxBytes` of UTF-8 at a character's border, keeping an extension of up to 16 bytes. */
export function shortened(name: string, maxBytes: number): string {
  if (name.length * 3 <= maxBytes || utf8Length(name) <= maxBytes) return name;
  const [stem, extension] = splitExtension(name);
  let room = maxBytes - utf8Length(extension);
  let text = '';
  for (const character of stem) {
    room -= utf8Length(character);
    if (room < 0) break;
    text += character;
  }
  return text + extension;
}

/** A file whose path may have to change; pad files stay out. */
export interface Renamable {
  path: string[];
}

/**
 * Renames so that no two files have the same path, case aside, and no file has the path of a folder: the first keeps
 * its name, the next ones become "name.1.ext", "name.2.ext". The outcome depends on order and names alone. Returns how
 * many numbered names were taken already; gives up (leaving names equal) past `limit` of these.
 */
export function distinctPaths(files: readonly Renamable[], limit: number = Number.POSITIVE_INFINITY): number {
  const taken = new Set<string>();
  const folders = new Map<string, string>();
  const keys: string[] = [];
  for (const file of files) {
    let key = '';
    for (let i = 0; i < file.path.length - 1; i++) {
      const longer = `${key}${folded(file.path[i]!)}/`;
      // the map gives each folder's text back once, so that files do not each keep their own
      const known = folders.get(longer);
      if (known === undefined) folders.set(longer, longer);
      key = known ?? longer;
    }
    keys.push(key);
  }
  const counters = new Map<string, number>();
  let clashes = 0;
  for (let i = 0; i < files.length; i++) {
    const file = files[i]!;
    const name = file.path[file.path.length - 1]!;
    const wanted = keys[i]! + folded(name);
    let key = wanted;
    let count = counters.get(wanted) ?? 0;
    let fresh = name;
    while (taken.has(key) || folders.has(`${key}/`)) {
      count++;
      fresh = numbered(name, count);
      key = keys[i]! + folded(fresh);
    }
    if (fresh !== name) {
      clashes += count - 1;
      if (clashes > limit) return clashes;
      counters.set(wanted, count);
      file.path[file.path.length - 1] = fresh;
    }
    taken.add(key);
  }
  return clashes;
}

/** Same text for names that a file system without regard to case or to Unicode composition takes for the same. */
function folded(name: string): string {
  for (let i = 0; i < name.length; i++) {
    if (name.charCodeAt(i) > 127) return name.normalize('NFC').toLowerCase().normalize('NFC');
  }
  return name.toLowerCase();
}

function numbered(name: string, count: number): string {
  const [stem, extension] = splitExtension(name);
  const suffix = `.${count}${extension}`;
  return shortened(stem, MAX_COMPONENT_BYTES - utf8Length(suffix)) + suffix;
}

/** "a.tar.gz" -> ["a.tar", ".gz"]; ".hidden" has no extension, nor has a name whose last dot stands far from its end. */
function splitExtension(name: string): [string, string] {
  const dot = name.lastIndexOf('.');
  const none = dot <= 0 || utf8Length(name.slice(dot)) > 16;
  return none ? [name, ''] : [name.slice(0, dot), name.slice(dot)];
}

function cleaned(bytes: Uint8Array): string {
  let text = utf8Decode(bytes);
  if (!plain.test(text)) text = text.replace(dropped, '').replace(replaced, '_');
  if (text.charCodeAt(1) === 58 && /^[A-Za-z]:/.test(text)) text = `${text[0]}_${text.slice(2)}`;
  // before and after shortening, which may uncover a '.' or ' ' at the end
  text = trimmed(shortened(trimmed(text), MAX_COMPONENT_BYTES));
  return isDevice(text) ? shortened(`_${text}`, MAX_COMPONENT_BYTES) : text;
}

/** Without '.' and ' ' at the end: Windows drops them, and '.' and '..' are nothing else. */
function trimmed(text: string): string {
  let end = text.length;
  while (end > 0 && (text.charCodeAt(end - 1) === 46 || text.charCodeAt(end - 1) === 32)) end--;
  return end === text.length ? text : text.slice(0, end);
}

/** Names that open a device on Windows, with any extension (Microsoft, "Naming Files, Paths, and Namespaces"). */
function isDevice(text: string): boolean {
  if (text.length < 3) return false;
  return /^(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|$)/i.test(text);
}

const plain = /^[!-.0-9;-[\]-~ ]*$/;
/**
 * Separators, and characters nobody sees: zero-width ones, bidi marks, embeddings and isolates, the byte order mark,
 * soft hyphen's kin, and tags (the list of libtorrent, widened by U+180E, U+206A..F and U+E0000..7F).
 */
const dropped = /[/\\\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e007f}]/gu;
/** Controls, what bad UTF-8 decodes to, and noncharacters. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: controls are what it looks for
const replaced = /[\u0000-\u001f\u007f-\u009f\ufffd\ufffe\uffff]/g;

function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    // a surrogate pair is 2 units and 4 bytes: 1 more for each of its halves
    if (c > 127) length += c < 0x800 || (c >= 0xd800 && c < 0xe000) ? 1 : 2;
  }
  return length;
}
