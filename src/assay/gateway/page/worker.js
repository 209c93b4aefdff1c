// Searches slices of nonces: WebAssembly with vectors where the browser has it, plain JavaScript elsewhere.
import { solves } from "./scrypt.js";
import { search as plainSearch } from "./sha256.js";

const LOW = 0xffffffffn;
const GATE = 2n ** 52n; // what a nonce must pass before it is worth a memory-hard try
const WASM_SLICE = 2 ** 18;
const PLAIN_SLICE = 2 ** 14;

/** Return a function (seed, index, first, tries, target) -> nonce or null, and its slice. */
async function prepare() {
  try {
    const answer = await fetch("sha256.wasm");
    const { instance } = await WebAssembly.instantiate(await answer.arrayBuffer());
    const { memory, search } = instance.exports;
    return {
      kind: "WebAssembly",
      slice: WASM_SLICE,
      find(seed, index, first, tries, target) {
        new Uint8Array(memory.buffer).set(seed, 256);
        const found = search(index, first, tries, target);
        return found === -1n ? null : BigInt.asUintN(64, found);
      },
    };
  } catch {
    return { kind: "JavaScript", slice: PLAIN_SLICE, find: plainSearch };
  }
}

const ready = prepare();

/** Search one slice: many hashes, of which the first that solves counts. */
function hashSlice({ slice, find }, { seed, index, first, target }) {
  // Easy puzzles end within few tries; a slice never crosses from one upper half of the nonce to the next.
  const expected = 2n ** 64n / (target || 1n);
  let tries = BigInt(slice);
  if (4n * expected < tries) tries = (4n * expected) & ~3n;
  if (tries < 1024n) tries = 1024n;
  const left = LOW + 1n - (first & LOW);
  if (tries > left) tries = left;
  const nonce = find(seed, index, first, Number(tries), target);
  return { nonce, next: first + tries, hashes: nonce === null ? Number(tries) : Number(nonce - first) + 1 };
}

/** Make one memory-hard try, with the next nonce that passes the gate. */
function memorySlice(kit, { seed, index, first, target, memory }) {
  let found = { nonce: null, next: first };
  while (found.nonce === null) found = hashSlice(kit, { seed, index, first: found.next, target: GATE });
  const { nonce } = found;
  const solved = solves(seed, index, nonce, memory, target);
  return { nonce: solved ? nonce : null, next: nonce + 1n, hashes: 1 };
}

self.onmessage = async ({ data }) => {
  const kit = await ready;
  const hard = data.alg === "scrypt";
  const found = hard ? memorySlice(kit, data) : hashSlice(kit, data);
  self.postMessage({ kind: hard ? "JavaScript" : kit.kind, index: data.index, ...found });
};
