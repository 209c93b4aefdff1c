// SHA-256 in plain JavaScript: for the seed of a challenge, and for browsers without WebAssembly vectors.
// Not crypto.subtle: it is missing on plain http, and one call for 44 bytes costs more than the hash.

const K = new Uint32Array(64);
const INITIAL = new Uint32Array(8);
{
  // The first 32 bits of the fractions of cube roots and square roots of primes.
  const fraction = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32);
  let count = 0;
  for (let n = 2; count < 64; n += 1) {
    let prime = true;
    for (let d = 2; d * d <= n; d += 1) prime &&= n % d !== 0;
    if (!prime) continue;
    if (count < 8) INITIAL[count] = fraction(Math.sqrt(n));
    K[count] = fraction(Math.cbrt(n));
    count += 1;
  }
}

const words = new Uint32Array(64);

/** Mix the block in words[0..15] into a state of eight words. */
function compress(state) {
  for (let t = 16; t < 64; t += 1) {
    const x = words[t - 15];
    const y = words[t - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    words[t] = (words[t - 16] + s0 + words[t - 7] + s1) | 0;
  }
  let a = state[0];
  let b = state[1];
  let c = state[2];
  let d = state[3];
  let e = state[4];
  let f = state[5];
  let g = state[6];
  let h = state[7];
  for (let t = 0; t < 64; t += 1) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[t] + words[t]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

/** Return SHA-256 of some bytes. */
export function sha256(bytes) {
  const padded = new Uint8Array((((bytes.length + 8) >> 6) + 1) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);
  const state = INITIAL.slice();
  for (let block = 0; block < padded.length; block += 64) {
    for (let t = 0; t < 16; t += 1) words[t] = view.getUint32(block + 4 * t);
    compress(state);
  }
  const result = new DataView(new ArrayBuffer(32));
  state.forEach((word, t) => result.setUint32(4 * t, word));
  return new Uint8Array(result.buffer);
}

/**
 * Try nonces first .. first + tries - 1, all with the same upper half, of a sub-puzzle; return the first that
 * solves, or null. All numbers are BigInt but the index and the tries; sha256.wat does the same in WebAssembly.
 */
export function search(seed, index, first, tries, target) {
  const view = new DataView(seed.buffer, seed.byteOffset, 32);
  for (let t = 0; t < 8; t += 1) words[t] = view.getUint32(4 * t);
  words.fill(0, 8, 16);
  words[8] = index;
  words[9] = Number(first >> 32n);
  words[11] = 0x80000000;
  words[15] = 352;
  const start = Number(first & 0xffffffffn);
  const high = Number(target >> 32n);
  const low = Number(target & 0xffffffffn);
  const state = new Uint32Array(8);
  for (let n = 0; n < tries; n += 1) {
    words[10] = start + n;
    state.set(INITIAL);
    compress(state);
    if (state[0] < high || (state[0] === high && state[1] < low)) return first + BigInt(n);
  }
  return null;
}
