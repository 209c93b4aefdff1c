"""How many admitted and settled requests a second the gateway's store takes, and how long each waits.

One request is two transactions: claim, pay and reserve before the model runs; price and journal
after it. 64 accounts, one item a request, every fourth request with a proof, the default pricing
rule. Run: ``python benchmarks/gateway_store.py [--store URL ...] [--threads N ...] [--requests N]``;
without a URL a SQLite file in a temporary folder is used.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from assay.gateway.admission import request_terms
from assay.gateway.policy import Policy
from assay.gateway.policy_parts import Pricing
from assay.gateway.pricing import open_rule
from assay.gateway.store.base import Claim
from assay.gateway.store.sql import SqlStore

ACCOUNTS = 64
WARM_UP = 100
POLICY = Policy(pricing=Pricing(deposit_units=0.0, free_units=1e9, debt_cap_units=1e9))
RULE = open_rule(POLICY)
TERMS = request_terms(POLICY, RULE)
LOG_Q = np.full(1, -50.0)


def request(store: SqlStore, number: int) -> tuple[float, float]:
    """Make one request and return the milliseconds of its two transactions."""
    now = time.time()
    claim = None if number % 4 else Claim(os.urandom(16).hex(), now + 60, 0.5)
    started = time.perf_counter()
    admitted = store.admit(f"account-{number % ACCOUNTS}", n_items=1, terms=TERMS, now=now, claim=claim)
    between = time.perf_counter()
    if admitted.query_id is None:
        msg = f"a request was not served: {admitted.detail}"
        raise RuntimeError(msg)
    store.settle(
        admitted.query_id, RULE.settle, log_q=LOG_Q, now=now, item_digests=[number.to_bytes(16, "big")]
    )
    return (between - started) * 1e3, (time.perf_counter() - between) * 1e3


def measure(url: str, threads: int, requests: int) -> str:
    """Return one line of the table."""
    store = SqlStore(url, pool_size=threads)
    for number in range(WARM_UP):
        request(store, number)
    begun, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        times = np.array(list(pool.map(lambda n: request(store, WARM_UP + n), range(requests))))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    wrong = store.unbalanced()
    kind = store.kind
    store.close()
    if wrong:
        msg = f"the books of {len(wrong)} accounts do not balance"
        raise RuntimeError(msg)
    (a50, s50), (a99, s99) = np.percentile(times, [50, 99], axis=0)
    return (
        f"{kind:<11} {threads:>7}  {requests / seconds:>6.0f}/s  {cpu / requests * 1e3:>6.2f} ms  "
        f"{a50:>6.2f} {a99:>6.2f} ms  {s50:>6.2f} {s99:>6.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="append")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("store       threads  requests  CPU a request  admit p50, p99   settle p50, p99")
    with tempfile.TemporaryDirectory() as folder:
        for number, url in enumerate(options.store or [None]):
            for threads in options.threads or [1, 4]:
                chosen = url or f"sqlite:///{Path(folder, f'{number}-{threads}.db')}"
                print(measure(chosen, threads, options.requests), flush=True)


if __name__ == "__main__":
    main()
