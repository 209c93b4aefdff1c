"""A gateway process that does nothing but store work; tests start it, race it and kill it.

``python store_process.py URL race START JTI N``: N threads redeem one proof at the time START.
``python store_process.py URL load FIRST COUNT``: claims proofs FIRST.. one after the other, and
prints a line after each transaction that the store has confirmed.
"""

from __future__ import annotations

import sys
import threading
import time

from flat_terms import Terms

from assay.gateway.store.base import Claim
from assay.gateway.store.sql import SqlStore

T0 = 1_600_000_000.0
TERMS = Terms(reserve_units=1.0, cap_units=1e9, free_units=1e9)


def race(url: str, start: float, jti: str, count: int) -> None:
    store = SqlStore(url, pool_size=count)
    decisions = []

    def redeem() -> None:
        time.sleep(max(0.0, start - time.time()))
        claim = Claim(jti, T0 + 60, 3.0)
        decisions.append(store.admit("racer", n_items=1, terms=TERMS, now=T0, claim=claim).decision)

    threads = [threading.Thread(target=redeem) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(" ".join(decisions) + "\n")


def report(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def load(url: str, first: int, count: int) -> None:
    store = SqlStore(url)
    for number in range(first, first + count):
        account = f"account-{number % 3}"
        claim = Claim(f"{number:032x}", T0 + 60, 2.0)
        admitted = store.admit(account, n_items=1, terms=TERMS, now=T0, claim=claim)
        report(admitted.decision, number, admitted.query_id)
        if admitted.query_id is not None:
            settled = store.charge(admitted.query_id, 1.5, now=T0)
            report("settled", number, settled.query_id)


if __name__ == "__main__":
    if sys.argv[2] == "race":
        race(sys.argv[1], float(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    else:
        load(sys.argv[1], int(sys.argv[3]), int(sys.argv[4]))
