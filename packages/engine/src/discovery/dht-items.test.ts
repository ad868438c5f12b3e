import { describe, expect, it } from 'vitest';
import { fromHex, latin1, toHex, utf8Encode } from '../base/bytes.ts';
import { PlatformCrypto } from '../base/platform-crypto.ts';
import {
  type DhtItem,
  DhtItems,
  itemTarget,
  makeImmutable,
  makeMutable,
  PutError,
  signedBytes,
  verifyItem,
} from './dht-items.ts';

const crypto = new PlatformCrypto();
const text = utf8Encode;
const bytes = (hex: string): Uint8Array => fromHex(hex)!;
const none = new Uint8Array(0);
const seed = new Uint8Array(32).fill(7);
const HOUR = 3600_000;

/** BEP 44, test vectors 1 to 3. */
const KEY = bytes('77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548');
const VALUE = text('12:Hello World!');
const PLAIN: DhtItem = {
  value: VALUE,
  publicKey: KEY,
  salt: none,
  seq: 1,
  signature: bytes(
    '305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01',
  ),
  target: bytes('4a533d47ec9c7d95b1ad75f576cffc641853b750'),
};
const SALTED: DhtItem = {
  ...PLAIN,
  salt: text('foobar'),
  signature: bytes(
    '6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17ddf9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08',
  ),
  target: bytes('411eba73b6f087ca51a3795d9c8c938d365e32c1'),
};

/** "N:aaa..." of so many bytes in all. */
function sized(length: number): Uint8Array {
  for (let n = length; n >= 0; n--) if (`${n}:`.length + n === length) return text(`${n}:${'a'.repeat(n)}`);
  throw new Error('no string has this length');
}

const mutable = (seq: number, value = 'i1e', salt = ''): DhtItem =>
  makeMutable(crypto, seed, text(salt), seq, text(value));

describe('items', () => {
  it('are those of the vectors of BEP 44', () => {
    expect(latin1(signedBytes(none, 1, VALUE))).toBe('3:seqi1e1:v12:Hello World!');
    expect(latin1(signedBytes(text('foobar'), 1, VALUE))).toBe('4:salt6:foobar3:seqi1e1:v12:Hello World!');
    for (const item of [PLAIN, SALTED]) {
      expect(toHex(itemTarget(item))).toBe(toHex(item.target));
      expect(verifyItem(crypto, item)).toBe(true);
    }
    expect(toHex(makeImmutable(VALUE).target)).toBe('e5f96f6f38320f0f33959cb4d3d656452117aadb');
    expect(verifyItem(crypto, makeImmutable(VALUE))).toBe(true);
  });

  it('are not believed with anything changed', () => {
    expect(verifyItem(crypto, { ...PLAIN, seq: 2 })).toBe(false);
    expect(verifyItem(crypto, { ...PLAIN, value: text('12:Hello world!') })).toBe(false);
    expect(verifyItem(crypto, { ...PLAIN, salt: text('foobar') })).toBe(false);
    expect(verifyItem(crypto, { ...SALTED, salt: none, target: PLAIN.target })).toBe(false);
    expect(verifyItem(crypto, { ...SALTED, target: PLAIN.target })).toBe(false);
    expect(verifyItem(crypto, { ...PLAIN, signature: SALTED.signature })).toBe(false);
    expect(verifyItem(crypto, { ...makeImmutable(VALUE), value: text('i1e') })).toBe(false);
    expect(verifyItem(crypto, { ...makeImmutable(VALUE), salt: text('x') })).toBe(false);
  });

  it('are signed so that they verify', () => {
    const item = mutable(5, 'd1:ai1ee', 'salt');
    expect(verifyItem(crypto, item)).toBe(true);
    expect(verifyItem(crypto, { ...item, seq: 6 })).toBe(false);
    expect(() => makeImmutable(text('i01e'))).toThrow();
    expect(() => makeMutable(crypto, seed, new Uint8Array(65), 1, text('i1e'))).toThrow();
  });
});

describe('the store of items', () => {
  const store = (max = 10): DhtItems => new DhtItems(crypto, max);

  it('keeps what is genuine, as a copy', () => {
    const items = store();
    const value = VALUE.slice();
    expect(items.put(0, { ...SALTED, value }, -1)).toBe(0);
    value.fill(0);
    expect(items.get(0, SALTED.target)).toEqual(SALTED);
    expect(items.put(0, makeImmutable(VALUE), -1)).toBe(0);
    expect(items.get(0, makeImmutable(VALUE).target)).toEqual(makeImmutable(VALUE));
    expect(items.get(0, PLAIN.target)).toBeNull();
    expect(items.count).toBe(2);
  });

  it('says 205 and 207 exactly past the limits', () => {
    const items = store();
    expect(items.put(0, makeImmutable(sized(1000)), -1)).toBe(0);
    expect(items.put(0, { ...makeImmutable(VALUE), value: sized(1001) }, -1)).toBe(PutError.ValueTooBig);
    expect(items.put(0, { ...PLAIN, value: sized(1001) }, -1)).toBe(205);
    expect(items.put(0, mutable(1, 'i1e', 'x'.repeat(64)), -1)).toBe(0);
    expect(items.put(0, { ...PLAIN, salt: new Uint8Array(65) }, -1)).toBe(207);
  });

  it('says 203 to what is no canonical bencoding or has the wrong form', () => {
    const items = store();
    for (const bad of ['', 'i01e', 'd1:bi1e1:ai2ee', 'd1:ai1e1:ai2ee', 'i1ei2e', '5:abc', 'x', 'l'.repeat(500)]) {
      expect(items.put(0, { ...makeImmutable(VALUE), value: text(bad) }, -1)).toBe(203);
    }
    expect(items.put(0, { ...PLAIN, publicKey: KEY.subarray(1) }, -1)).toBe(203);
    expect(items.put(0, { ...PLAIN, signature: null }, -1)).toBe(203);
    expect(items.put(0, { ...PLAIN, signature: new Uint8Array(63) }, -1)).toBe(203);
    for (const seq of [-1, 1.5, 2 ** 53, Number.NaN]) expect(items.put(0, { ...PLAIN, seq }, -1)).toBe(203);
    expect(items.put(0, { ...PLAIN, target: new Uint8Array(19) }, -1)).toBe(203);
    expect(items.count).toBe(0);
  });

  it('says 206 to what was not signed with its key, or does not belong there', () => {
    const items = store();
    expect(items.put(0, { ...PLAIN, seq: 2 }, -1)).toBe(206);
    expect(items.put(0, { ...PLAIN, signature: new Uint8Array(64) }, -1)).toBe(206);
    expect(items.put(0, { ...makeImmutable(VALUE), target: PLAIN.target }, -1)).toBe(206);
    expect(items.put(0, PLAIN, -1)).toBe(0);
    expect(items.put(0, { ...PLAIN, signature: SALTED.signature }, -1)).toBe(206);
    expect(items.put(0, { ...PLAIN, target: SALTED.target }, -1)).toBe(206);
  });

  it('never goes back: 302 for a lower seq, and for the same with another value', () => {
    const items = store();
    expect(items.put(0, mutable(5), -1)).toBe(0);
    expect(items.put(0, mutable(4), -1)).toBe(302);
    expect(items.put(0, mutable(5, 'i2e'), -1)).toBe(302);
    expect(items.put(0, mutable(5), -1)).toBe(0);
    expect(items.put(0, mutable(6, 'i2e'), -1)).toBe(0);
    expect(latin1(items.get(0, mutable(0).target)!.value)).toBe('i2e');
    expect(items.put(0, mutable(0, 'i1e', 'other'), -1)).toBe(0);
    expect(items.count).toBe(2);
  });

  it('compares and swaps: 301 when another seq is here than expected', () => {
    const items = store();
    expect(items.put(0, mutable(3), 99)).toBe(0);
    expect(items.put(0, mutable(4), 2)).toBe(301);
    expect(items.put(0, mutable(4), 4)).toBe(301);
    expect(items.get(0, mutable(3).target)!.seq).toBe(3);
    expect(items.put(0, mutable(4), 3)).toBe(0);
    expect(items.put(0, mutable(4), 3)).toBe(301);
    expect(items.put(0, makeImmutable(VALUE), -1)).toBe(0);
    expect(items.put(0, makeImmutable(VALUE), 5)).toBe(0);
  });

  it('forgets after two hours without a put of the same', () => {
    const items = store();
    items.put(0, PLAIN, -1);
    items.put(0, SALTED, -1);
    items.put(HOUR, PLAIN, -1);
    items.tick(2 * HOUR);
    expect(items.get(2 * HOUR, SALTED.target)).toBeNull();
    expect(items.get(2 * HOUR, PLAIN.target)).toEqual(PLAIN);
    expect(items.count).toBe(1);
    expect(items.get(3 * HOUR, PLAIN.target)).toBeNull();
    expect(items.put(3 * HOUR, { ...mutable(1) }, -1)).toBe(0);
    expect(items.count).toBe(1);
  });

  it('holds its cap, and a flood from one network drives out itself', () => {
    const items = store(700);
    for (let i = 0; i < 350; i++) items.put(i, makeImmutable(text(`i${i}e`)), -1, Uint8Array.of(5, i >> 8, i, 1));
    for (let i = 0; i < 20_000; i++) {
      expect(items.put(1000, makeImmutable(text(`i${1000 + i}e`)), -1, Uint8Array.of(9, 9, 9, i))).toBe(0);
      expect(items.count).toBeLessThanOrEqual(700);
    }
    let left = 0;
    for (let i = 0; i < 350; i++) if (items.get(1000, makeImmutable(text(`i${i}e`)).target) !== null) left++;
    expect(left).toBeGreaterThan(300);
    expect(items.get(1000, makeImmutable(text('i20999e')).target)).not.toBeNull();
  });
});
