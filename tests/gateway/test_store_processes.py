from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flat_terms import Terms

from assay.errors import AssayError
from assay.gateway.store.base import Claim, Retention, StoreDown
from assay.gateway.store.sql import SqlStore

T0 = 1_600_000_000.0
TERMS = Terms(reserve_units=1.0, cap_units=1e9, free_units=1e9)
PROCESS = str(Path(__file__).with_name("store_process.py"))


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, PROCESS, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_fifty_redemptions_over_two_replicas_one_wins(postgresql_url):
    replicas = [SqlStore(postgresql_url, pool_size=25) for _ in range(2)]
    barrier = threading.Barrier(50)
    claim = Claim("ab" * 16, T0 + 60, 5.0)

    def redeem(number):
        barrier.wait()
        return replicas[number % 2].admit("a", n_items=1, terms=TERMS, now=T0, claim=claim).decision

    with ThreadPoolExecutor(50) as pool:
        decisions = list(pool.map(redeem, range(50)))
    assert sorted(decisions) == ["replay"] * 49 + ["serve"]
    state = replicas[0].account("a")
    assert (state.work_paid, state.reserved) == (5.0, 1.0)
    assert replicas[1].unbalanced() == []
    for replica in replicas:
        replica.close()


def test_fifty_redemptions_by_two_processes_on_one_file_one_wins(tmp_path):
    store_url = f"sqlite:///{tmp_path / 'gateway.db'}"
    store = SqlStore(store_url)  # makes the schema before the race
    begin = time.time() + 2.5
    racers = [start(store_url, "race", begin, "cd" * 16, 25) for _ in range(2)]
    decisions = []
    for racer in racers:
        out, err = racer.communicate(timeout=60)
        assert racer.returncode == 0, err
        decisions += out.split()
    assert sorted(decisions) == ["replay"] * 49 + ["serve"]
    assert store.account("racer").work_paid == 3.0
    assert store.unbalanced() == []
    store.close()


def test_kill_9_under_load_loses_no_debit_and_claims_nothing_twice(store_url):
    store = SqlStore(store_url)
    processes = [start(store_url, "load", 0, 100_000), start(store_url, "load", 50_000, 100_000)]
    confirmed: dict[str, dict[int, str]] = {"serve": {}, "settled": {}}

    def listen(process):
        for line in process.stdout:
            if line.endswith("\n") and len(words := line.split()) == 3:
                confirmed.setdefault(words[0], {})[int(words[1])] = words[2]

    listeners = [threading.Thread(target=listen, args=(p,)) for p in processes]
    for listener in listeners:
        listener.start()
    end = time.monotonic() + 30
    while min(sum(n < 50_000 for n in confirmed["serve"]), sum(n >= 50_000 for n in confirmed["serve"])) < 40:
        assert time.monotonic() < end, "the load did not start"
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGKILL)  # both are in the middle of their work
    for process, listener in zip(processes, listeners, strict=True):
        process.wait(10)
        listener.join(10)
        process.stderr.close()

    assert store.unbalanced() == []
    rows = {row.id: row for row in store.queries(limit=10_000)}
    assert set(confirmed["serve"].values()) <= rows.keys()
    assert all(rows[query].status == "settled" for query in confirmed["settled"].values())
    # What was confirmed cannot be claimed again, and no claim was counted twice.
    for number in list(confirmed["serve"])[-5:]:
        again = Claim(f"{number:032x}", T0 + 60, 2.0)
        assert store.admit("thief", n_items=1, terms=TERMS, now=T0, claim=again).decision == "replay"
    views, _ = store.accounts()
    assert sum(view.state.work_paid for view in views) == 2.0 * len(rows)
    # Every admitted query is billed in the end, settled or not: the sweeper takes the reservation.
    left = sum(row.status == "admitted" for row in rows.values())
    assert store.sweep(T0 + 1000.0, Retention(claims=1e9)).reservations == left
    rows = {row.id: row for row in store.queries(limit=10_000)}
    prices = {"settled": 1.5, "expired": 1.0}
    assert all(row.price == prices[row.status] for row in rows.values())
    owed = sum(row.price for row in rows.values())
    views, _ = store.accounts()
    assert sum(view.state.debt - view.state.credit for view in views) == pytest.approx(owed - 2.0 * len(rows))
    assert store.unbalanced() == []
    store.close()


def test_a_stopped_server_denies_and_comes_back(mortal_postgresql):
    store = SqlStore(mortal_postgresql.database(), timeout=2.0)
    query = store.admit("a", n_items=1, terms=TERMS, now=T0, claim=Claim("01" * 16, T0 + 60, 1.0)).query_id
    mortal_postgresql.stop()  # at once, as after a crash
    calls = (
        lambda: store.account("a"),
        lambda: store.admit("a", n_items=1, terms=TERMS, now=T0, claim=Claim("02" * 16, T0 + 60, 1.0)),
        lambda: store.charge(query, 1.0, now=T0),
        lambda: store.sweep(T0),
        store.ping,
    )
    for call in calls:
        with pytest.raises(StoreDown, match="denied"):
            call()
    mortal_postgresql.start()
    assert store.charge(query, 1.0, now=T0) is not None
    assert (
        store.admit("a", n_items=1, terms=TERMS, now=T0, claim=Claim("02" * 16, T0 + 60, 1.0)).decision
        == "serve"
    )
    assert (
        store.admit("a", n_items=1, terms=TERMS, now=T0, claim=Claim("01" * 16, T0 + 60, 1.0)).decision
        == "replay"
    )
    assert store.unbalanced() == []
    assert store.ping() < 2.0
    store.close()


def test_a_locked_file_denies(tmp_path):
    path = tmp_path / "gateway.db"
    store = SqlStore(f"sqlite:///{path}", timeout=0.2)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreDown):
        store.admit("a", n_items=1, terms=TERMS, now=T0)
    assert store.account("a") is None  # readers never wait for writers
    blocker.execute("ROLLBACK")
    blocker.close()
    assert store.admit("a", n_items=1, terms=TERMS, now=T0).decision == "serve"
    store.close()


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/gateway.db", "postgresql://assay@/x?host=/nowhere"]
)
def test_an_unreachable_store_says_so(url):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    with pytest.raises(StoreDown, match="does not answer") as caught:
        SqlStore(url, timeout=1.0)
    assert isinstance(caught.value, AssayError)
