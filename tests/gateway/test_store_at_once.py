"""Transactions that an event loop runs itself: at once, or not at all."""

import asyncio
import sqlite3
import threading
import time

import numpy as np
import pytest
from flat_terms import Terms

from assay.errors import InvalidInput
from assay.gateway.policy import Policy
from assay.gateway.pricing import open_rule
from assay.gateway.server.turns import Turns
from assay.gateway.store.base import Bill, Claim, StoreBusy, StoreDown
from assay.gateway.store.sql import SqlStore

T0 = 1_800_000_000.0
FLAT = Terms(reserve_units=2.0, cap_units=1e6)
RULE = open_rule(Policy())


@pytest.fixture
def store(tmp_path):
    with_file = SqlStore(f"sqlite:///{tmp_path}/gateway.db")
    yield with_file
    with_file.close()


def bill(query, value=-5.0, account="a"):
    return Bill(query, np.array([value]), [query.encode()], account)


def test_at_once_and_later_keep_the_same_books(store):
    proof = Claim("0f" * 16, exp=T0 + 60, units=8.0, deposit=False)
    first = store.admit("a", n_items=1, terms=FLAT, now=T0, claim=proof, wait=False)
    assert first.decision == "serve"
    assert store.admit("a", n_items=1, terms=FLAT, now=T0, claim=proof, wait=False).decision == "replay"
    second = store.admit("a", n_items=1, terms=FLAT, now=T0 + 1)
    done = store.settle_all(
        [bill(first.query_id), bill(second.query_id)], RULE.settle, now=T0 + 2, wait=False
    )
    assert [one.query_id for one in done] == [first.query_id, second.query_id]
    assert store.account("a") == done[1].state
    assert store.account("a").reserved == 0.0
    assert store.unbalanced() == []


def test_a_failure_at_once_leaves_nothing_behind(store):
    query = store.admit("a", n_items=1, terms=FLAT, now=T0, wait=False).query_id
    before = store.account("a"), len(store.journal())

    def broken(state, log_q, duplicates):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.settle_all([bill(query)], broken, now=T0, wait=False)
    assert (store.account("a"), len(store.journal())) == before
    assert store.settle_all([bill(query)], RULE.settle, now=T0, wait=False)[0] is not None


def test_one_bad_bill_settles_none_of_them(store):
    queries = [store.admit(name, n_items=1, terms=FLAT, now=T0).query_id for name in "ab"]
    bad = Bill(queries[1], np.zeros(2), (), "b")
    with pytest.raises(InvalidInput, match="1 items"):
        store.settle_all([bill(queries[0]), bad], RULE.settle, now=T0)
    assert {row.status for row in store.queries()} == {"admitted"}
    done = store.settle_all(
        [bill(queries[0]), bill("gone"), bill(queries[1], account="b")], RULE.settle, now=T0
    )
    assert [None if one is None else one.account_id for one in done] == ["a", None, "b"]


def test_another_process_that_writes_is_not_waited_for(store, tmp_path):
    other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = time.perf_counter()
    with pytest.raises(StoreBusy):
        store.admit("a", n_items=1, terms=FLAT, now=T0, wait=False)
    assert time.perf_counter() - begun < 1.0  # the patience of `write` is 5 s
    other.execute("ROLLBACK")
    other.close()
    assert store.admit("a", n_items=1, terms=FLAT, now=T0, wait=False).decision == "serve"


def test_a_thread_that_writes_is_not_waited_for(store):
    inside, leave = threading.Event(), threading.Event()

    def slow(_connection):
        inside.set()
        leave.wait(10)

    thread = threading.Thread(target=store._database.write, args=(slow,))
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(StoreBusy):
            store.admit("a", n_items=1, terms=FLAT, now=T0, wait=False)
    finally:
        leave.set()
        thread.join(10)


def test_the_log_begins_anew_while_writing_goes_on(store, tmp_path, monkeypatch):
    from assay.gateway.store import engine

    monkeypatch.setattr(engine, "_WAL_COMMITS", 20)
    log = tmp_path / "gateway.db-wal"
    sizes = []
    for step in range(200):
        query = store.admit("a", n_items=1, terms=FLAT, now=T0 + step, wait=False).query_id
        assert store.refund(query, now=T0 + step)
        store.relieve()
        sizes.append(log.stat().st_size)
    assert sizes[-1] == sizes[40]  # written from its beginning again and again


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///{}/gateway.db?synchronous=FULL"])
def test_a_store_to_wait_for_says_so(url, tmp_path):
    store = SqlStore(url.format(tmp_path))
    assert not store.at_once
    with pytest.raises(StoreBusy):
        store.admit("a", n_items=1, terms=FLAT, now=T0, wait=False)
    store.close()


def test_a_commit_that_fails_is_not_tried_again(store, monkeypatch):
    """Whether it was written is open: a second try could hold the account's units twice."""
    from assay.gateway.store import engine

    whole = engine.on_driver

    def failing(connection, text, values=()):
        return whole(connection, "COMMIT_ON_A_FULL_DISK" if text == "COMMIT" else text, values)

    monkeypatch.setattr(engine, "on_driver", failing)
    with pytest.raises(StoreDown):
        store.admit("a", n_items=1, terms=FLAT, now=T0, wait=False)
    monkeypatch.undo()
    assert store.account("a") is None


def test_turns_run_on_the_loop_and_hand_back_what_comes_of_it():
    async def main():
        turns, here = Turns(asyncio.get_running_loop()), threading.get_ident()
        assert await asyncio.to_thread(turns.run, threading.get_ident) == here
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(turns.run, lambda: 1 // 0)

    asyncio.run(main())


def test_a_turn_that_was_given_up_never_happens():
    done = []

    async def main():
        turns = Turns(asyncio.get_running_loop(), seconds=0.05)
        waiting = asyncio.get_running_loop().run_in_executor(None, turns.run, lambda: done.append(1))
        time.sleep(0.3)  # noqa: ASYNC251 - the loop is held up for longer than the caller waits
        with pytest.raises(TimeoutError):
            await waiting

    asyncio.run(main())
    assert done == []


def test_a_loop_that_has_ended_takes_no_turns():
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(TimeoutError, match="ended"):
        Turns(loop).run(lambda: None)
