// What the page shows, and what its buttons do.
import * as gateway from "./gateway.js";
import { Crew, readChallenge } from "./solver.js";

const $ = (id) => document.getElementById(id);
const KEPT = "assay-account-key";
const MOST_ROUNDS = 1000;
const crew = new Crew();
let rules = null;
let running = null;

// --- words ------------------------------------------------------------------------------------------------

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1, notation: "compact" });
const units = (value) => `${new Intl.NumberFormat("en", { maximumFractionDigits: 2 }).format(value)} units`;

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `about ${Math.round(seconds)} s`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  return `about ${(seconds / 3600).toFixed(1)} h`;
}

/** What one try is called. */
const tries = (alg) => (alg === "scrypt" ? "tries" : "hashes");

function work(hashes, alg) {
  const rate = crew.rates[alg];
  return `${number.format(hashes)} ${tries(alg)}${rate ? `, ${duration(hashes / rate)} here` : ""}`;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function fail(error) {
  if (error.name === "AbortError") say("Stopped. What was finished is kept.");
  else say(error.message, true);
}

// --- showing ----------------------------------------------------------------------------------------------

function showFacts() {
  if (rules) {
    const { deposit_units: deposit, hashes_per_unit: each } = rules;
    $("fact-deposit").textContent = deposit > 0 ? `${units(deposit)}: ${work(deposit * each, rules.alg)}` : "free";
    $("fact-unit").textContent = work(each, rules.alg);
    $("about-memory").hidden = rules.alg !== "scrypt";
  }
  const alg = rules?.alg ?? "sha256";
  if (crew.rates[alg]) {
    const cores = crew.size === 1 ? "1 core" : `${crew.size} cores`;
    const rate = `${number.format(crew.rates[alg])} ${tries(alg)} a second`;
    $("fact-rate").textContent = `${rate} on ${cores}, in ${crew.kinds[alg]}`;
  }
  showEstimate();
}

function showEstimate() {
  const wanted = Number($("units").value);
  const rate = rules && crew.rates[rules.alg];
  if (!rate || !Number.isFinite(wanted)) return;
  const entry = $("key").value.trim() ? 0 : rules.deposit_units;
  $("estimate").textContent = duration(((wanted + entry) * rules.hashes_per_unit) / rate);
}

function showCells(k) {
  $("cells").replaceChildren(...Array.from({ length: k }, () => document.createElement("span")));
  $("cells").setAttribute("aria-valuemax", k);
  $("cells").setAttribute("aria-valuenow", 0);
  $("work").hidden = false;
}

function showProgress(challenge, { done, hashes, seconds }) {
  const solved = done.filter(Boolean).length;
  done.forEach((finished, index) => $("cells").children[index].classList.toggle("done", finished));
  $("cells").setAttribute("aria-valuenow", solved);
  $("cells").setAttribute("aria-valuetext", `${solved} of ${done.length} parts solved`);
  const rate = hashes / seconds;
  const left = ((done.length - solved) * challenge.hashes) / challenge.k / rate;
  $("numbers").textContent =
    `${solved} of ${done.length} parts, ${number.format(hashes)} ${tries(challenge.alg)}, ` +
    `${number.format(rate)} a second` +
    (solved < done.length ? `, ${duration(left)} to go` : "");
}

function showReceipt(total, last, key) {
  $("receipt").hidden = false;
  $("receipt-credit").textContent = units(last.credit_units);
  $("receipt-units").textContent = units(total.units);
  const done = `${number.format(total.hashes)} ${tries(total.alg)}`;
  $("receipt-work").textContent = `${done} in ${total.seconds.toFixed(1)} s`;
  $("receipt-expires").textContent = last.expires ? new Date(last.expires * 1000).toLocaleString() : "never";
  $("receipt-key").value = key;
  $("key").value = key;
  $("receipt-title").focus();
}

function showClaims({ claims, hashes, alg }) {
  const purposes = { query: "one request", deposit: "opening an account", credit: "credit" };
  const rows = [
    ["Pays for", purposes[claims.purpose] ?? claims.purpose],
    ["Model", claims.model ? `${claims.model} ${claims.model_version}`.trim() : null],
    ["Items", claims.n_items || null],
    ["Price", units(claims.price_units)],
    ["Work", work(hashes, alg)],
    ["Expires", new Date(claims.exp * 1000).toLocaleString()],
  ];
  $("claims").replaceChildren(
    ...rows
      .filter(([, value]) => value !== null)
      .map(([name, value]) => {
        const row = document.createElement("div");
        row.append(document.createElement("dt"), document.createElement("dd"));
        row.firstChild.textContent = name;
        row.lastChild.textContent = value;
        return row;
      }),
  );
  $("claims").hidden = false;
}

// --- working ----------------------------------------------------------------------------------------------

async function solve(token, signal) {
  const challenge = readChallenge(token);
  showCells(challenge.k);
  return crew.solve(challenge, (progress) => showProgress(challenge, progress), signal);
}

/** Run one job; buttons change meanwhile. */
async function busy(job) {
  running = new AbortController();
  $("start").disabled = $("solve").disabled = true;
  $("stop").hidden = false;
  say("");
  try {
    await job(running.signal);
  } catch (error) {
    fail(error);
  } finally {
    running = null;
    $("start").disabled = $("solve").disabled = false;
    $("stop").hidden = true;
    $("work").hidden = true;
    showFacts();
  }
}

async function read() {
  return { alg: "sha256", ...(await gateway.policy()) };
}

/** Return whether a deposit is due, and on which key. */
async function entry(key) {
  if (!key) return rules.deposit_units;
  try {
    return (await gateway.account(key)).deposit_due_units;
  } catch (error) {
    if (error.status === 404) return rules.deposit_units;
    throw error;
  }
}

async function bank(signal) {
  rules ??= await read();
  let key = $("key").value.trim();
  let left = Number($("units").value);
  const total = { units: 0, hashes: 0, seconds: 0, alg: rules.alg };
  let last = null;

  const round = async (wanted) => {
    signal.throwIfAborted();
    const given = await gateway.challenge(wanted, key);
    key = given.account_key ?? key;
    const found = await solve(given.challenge, signal);
    last = await gateway.redeem(found.proof, key);
    key = last.account_key ?? key;
    total.units += last.units;
    total.hashes += found.hashes;
    total.seconds += found.seconds;
    showReceipt(total, last, key);
    return last.units;
  };

  if ((await entry(key)) > 0) {
    say("Opening the account …");
    await round({ purpose: "deposit" });
  }
  for (let n = 0; left > 0 && n < MOST_ROUNDS; n += 1) {
    say(`Earning ${units(left)} of credit …`);
    left -= await round({ purpose: "credit", units: left });
  }
  if (last === null) say("There is nothing to do: the account is open, and no units are asked for.");
  else say("Done. The credit is on the account.");
}

// --- buttons ----------------------------------------------------------------------------------------------

$("bank-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(bank);
});

$("solve-form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(async (signal) => {
    const { proof } = await solve($("challenge").value.trim(), signal);
    $("proof").value = proof;
    $("proof-box").hidden = false;
    say("Solved. The proof is below.");
  });
});

$("challenge").addEventListener("input", () => {
  try {
    showClaims(readChallenge($("challenge").value.trim()));
  } catch {
    $("claims").hidden = true;
  }
});

$("stop").addEventListener("click", () => running?.abort());
$("units").addEventListener("input", showEstimate);
$("key").addEventListener("input", showEstimate);

$("workers").addEventListener("change", async () => {
  if (running) return;
  crew.resize(Number($("workers").value));
  $("workers").value = crew.size;
  await crew.measure(rules?.alg);
  showFacts();
});

for (const [button, field] of [["copy", "receipt-key"], ["copy-proof", "proof"]]) {
  $(button).addEventListener("click", async () => {
    $(field).select();
    try {
      await navigator.clipboard.writeText($(field).value);
      say("Copied.");
    } catch {
      say("Selected; copy it with your keyboard.");
    }
  });
}

$("keep").addEventListener("change", () => {
  if ($("keep").checked) localStorage.setItem(KEPT, $("receipt-key").value);
  else localStorage.removeItem(KEPT);
});

// --- start ------------------------------------------------------------------------------------------------

const kept = localStorage.getItem(KEPT);
if (kept) {
  $("key").value = kept;
  $("keep").checked = true;
}
const linked = new URLSearchParams(location.hash.slice(1)).get("challenge");
if (linked) {
  $("solve-details").open = true;
  $("challenge").value = linked;
  $("challenge").dispatchEvent(new Event("input"));
}
$("workers").value = Math.max(1, Math.floor(navigator.hardwareConcurrency || 2));
crew.resize(Number($("workers").value));
try {
  rules = await read();
  showFacts();
  await crew.measure(rules.alg);
} catch (error) {
  fail(error);
}
showFacts();
document.documentElement.dataset.ready = "true";
