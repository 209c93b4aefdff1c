from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from flat_terms import Terms

from assay.errors import InvalidInput
from assay.gateway.store import schema
from assay.gateway.store.base import Claim, KeyRow, Retention, StoreDown
from assay.gateway.store.engine import Database
from assay.gateway.store.migrations import MIGRATIONS, migrate, schema_version
from assay.gateway.store.sql import SqlStore
from assay.gateway.store.sweep import Sweeper

T0 = 1_600_000_000.0
DAY = 86_400.0
TERMS = Terms(reserve_units=1.0, cap_units=1e6, free_units=1e6)


def used(store: SqlStore, account: str, at: float, *, units: float = 1.5, number: int = 0) -> str:
    claim = Claim(f"{number:032x}", at + 60, 0.5) if number else None
    query = store.admit(account, n_items=2, terms=TERMS, now=at, claim=claim, model="m", digest="d").query_id
    store.charge(query, units, now=at)
    return query


def test_migrations_make_the_tables_that_queries_use(store_url):
    store = SqlStore(store_url)
    found = sa.inspect(store._database.engine)
    names = set(found.get_table_names()) - {"schema_version", "sqlite_sequence"}
    assert names == set(schema.metadata.tables)
    for name, table in schema.metadata.tables.items():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(name)}
        assert columns.keys() == set(table.columns.keys())
        optional = {c.name for c in table.columns if c.nullable and not c.primary_key}
        assert {n for n, nullable in columns.items() if nullable} - set(
            table.primary_key.columns.keys()
        ) == optional
    store.close()


def test_an_older_database_is_brought_up_to_date_with_its_content(store_url):
    old = Database(store_url)
    assert old.write(lambda c: migrate(c, 1, MIGRATIONS[:1])) == 1
    row = dict.fromkeys(schema.accounts.columns.keys(), 0) | {
        "id": "a",
        "tier": "gold",
        "rdp": b"",
        "debt": 7_000_000,
    }
    old.write(lambda c: c.execute(sa.insert(schema.accounts), row) and None)
    moves = dict.fromkeys(schema.journal.columns.keys(), 0) | {
        "id": 1, "kind": "open", "account": "a", "query_id": "", "jti": "", "detail": "{}",
        "price": 7_000_000, "debt": 7_000_000,
    }  # fmt: skip
    old.write(lambda c: c.execute(sa.insert(schema.journal), moves) and None)
    assert "alarms" not in sa.inspect(old.engine).get_table_names()
    old.close()
    store = SqlStore(store_url)
    assert store._database.read(schema_version) == len(MIGRATIONS)
    assert (store.account("a").tier, store.account("a").debt) == ("gold", 7.0)
    store.alarm("a", "prada", 0.5, now=T0)
    assert store.unbalanced() == []
    store.close()
    again = SqlStore(store_url)  # nothing left to do
    assert again.account("a").debt == 7.0
    again.close()


def test_a_newer_database_is_refused(store_url):
    SqlStore(store_url).close()
    database = Database(store_url)
    later = sa.text("INSERT INTO schema_version VALUES (99, 0)")
    database.write(lambda c: c.execute(later) and None)
    database.close()
    with pytest.raises(InvalidInput, match="version 99"):
        SqlStore(store_url)


def test_a_step_that_fails_leaves_the_old_schema(store_url):
    database = Database(store_url)
    database.write(lambda c: migrate(c, 1))
    broken = (*MIGRATIONS, ("CREATE TABLE extra (id BIGINT)", "INSERT INTO nonsense VALUES (1)"))
    with pytest.raises((StoreDown, sa.exc.ProgrammingError)):
        database.write(lambda c: migrate(c, 1, broken))
    assert database.read(schema_version) == len(MIGRATIONS)
    assert "extra" not in sa.inspect(database.engine).get_table_names()
    database.close()


def test_replicas_that_start_together_agree(store_url):
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: SqlStore(store_url), range(4)))
    versions = {store._database.read(schema_version) for store in stores}
    assert versions == {len(MIGRATIONS)}
    for store in stores:
        store.close()


def test_sweep_forgets_claims_after_their_time_and_never_lets_them_back(store):
    for number in (1, 2):
        used(store, "a", T0 + 100.0 * number, number=number)
    assert store.sweep(T0 + 100.0 + 60.0 + 119.0).claims == 0
    assert store.sweep(T0 + 100.0 + 60.0 + 121.0).claims == 1
    # The clock is set back, and the token looks unexpired again: it stays redeemed.
    old = Claim(f"{1:032x}", T0 + 160.0, 0.5)
    assert store.admit("a", n_items=1, terms=TERMS, now=T0, claim=old).decision == "replay"
    assert store.admit("new", n_items=1, terms=TERMS, now=T0, claim=old).decision == "replay"
    fresh = Claim(f"{3:032x}", T0 + 290.0, 0.5)
    assert store.admit("a", n_items=1, terms=TERMS, now=T0 + 230.0, claim=fresh).decision == "serve"


def test_a_fast_clock_cannot_make_a_shared_store_forget(postgresql_url):
    store = SqlStore(postgresql_url)
    now = time.time()
    used(store, "a", now, number=1)
    assert store.sweep(now + 400 * DAY).claims == 0  # the database's own time counts
    assert (
        store.admit("a", n_items=1, terms=TERMS, now=now, claim=Claim(f"{1:032x}", now + 60, 0.5)).decision
        == "replay"
    )
    store.close()


def test_sweep_bills_what_a_dead_process_left(store):
    query = store.admit("a", n_items=3, terms=TERMS, now=T0).query_id
    assert store.sweep(T0 + 299.0).reservations == 0
    assert store.sweep(T0 + 301.0).reservations == 1
    state = store.account("a")
    assert (state.debt, state.reserved) == (3.0, 0.0)
    assert store.queries()[0].status == "expired"
    assert store.charge(query, 9.0, now=T0 + 302.0) is None  # too late, and not billed twice
    assert store.refund(query, now=T0 + 302.0) is False
    assert store.unbalanced() == []


def test_sweep_keeps_the_balance_while_it_forgets_history(store):
    for day in range(6):
        used(store, "a", T0 + day * DAY, number=2 * day + 1)
        used(store, "b", T0 + day * DAY, units=0.75, number=2 * day + 2)
    store.note("started", now=T0, version=1)
    before = {name: store.account(name) for name in "ab"}
    entries = len(store.journal())
    retention = Retention(queries=2 * DAY, journal=3 * DAY, items=DAY, batch=3)
    now = T0 + 5 * DAY + 3600.0
    swept = store.sweep(now, retention)
    assert (swept.queries, swept.claims) == (8, 12)
    assert swept.journal > 0
    assert {name: store.account(name) for name in "ab"} == before
    assert store.unbalanced() == []
    left = store.journal()
    assert len(left) < entries
    assert [e.kind for e in left].count("carried") == 3  # a, b, and the notes without an account
    assert sum(e.work for e in left if e.account == "a") == before["a"].work_paid
    # Time goes on: what was carried is carried on.
    store.sweep(now + 10 * DAY, retention)
    assert sorted((e.account, e.kind) for e in store.journal()) == [(n, "carried") for n in ("", "a", "b")]
    assert store.unbalanced() == []


def test_sweeper_works_in_the_background_and_survives_an_outage(tmp_path):
    store = SqlStore(f"sqlite:///{tmp_path / 'gateway.db'}")
    store.admit("a", n_items=3, terms=TERMS, now=T0)
    failures = []

    class Flaky:
        calls = 0

        def sweep(self, now, retention):
            self.calls += 1
            if self.calls == 1:
                raise StoreDown
            return store.sweep(now, retention)

    with Sweeper(Flaky(), clock=lambda: T0 + 1000.0, every=0.01, on_error=failures.append):
        end = time.monotonic() + 10
        while not (found := store.account("a")).debt and time.monotonic() < end:
            time.sleep(0.01)
    assert found.debt == 3.0
    assert len(failures) == 1
    store.close()


def test_operators_see_accounts_in_pages(store):
    for number in range(7):
        used(store, f"account-{number}", T0 + number, units=float(number), number=number + 1)
    page, total = store.accounts(order="debt", limit=3)
    assert total == 7
    assert [view.state.id for view in page] == ["account-6", "account-5", "account-4"]
    page, _ = store.accounts(order="debt", limit=3, offset=6)
    assert len(page) == 1
    assert [v.state.id for v in store.accounts(order="recent", limit=2)[0]] == ["account-6", "account-5"]
    page, total = store.accounts(prefix="account-3")
    assert (page[0].items_today, page[0].created_at, total) == (2, T0 + 3, 1)
    assert store.accounts(prefix="%")[1] == 0  # a wildcard is a letter here
    for order in ("work", "queries", "cusum", "epsilon"):
        assert len(store.accounts(order=order)[0]) == 7
    with pytest.raises(InvalidInput, match="ordered by"):
        store.accounts(order="id; DROP TABLE accounts")
    with pytest.raises(InvalidInput, match="page"):
        store.accounts(limit=0)


def test_operators_see_queries_over_time(store):
    for number in range(10):
        used(store, "ab"[number % 2], T0 + 30.0 * number, units=1.0)
    buckets = store.history(since=T0, until=T0 + 300.0, width=60.0)
    assert [b.start for b in buckets] == [T0 + 60.0 * k for k in range(5)]
    assert {(b.queries, b.items, b.units, b.accounts, b.alarms) for b in buckets} == {(2, 4, 2.0, 2, 0)}
    only = store.history(since=T0, until=T0 + 300.0, width=150.0, account="a")
    assert [(b.queries, b.accounts) for b in only] == [(3, 1), (2, 1)]
    rows = store.queries(account="b", since=T0 + 100.0, until=T0 + 200.0)
    assert [row.at - T0 for row in rows] == [150.0]
    assert (rows[0].model, rows[0].digest, rows[0].n_items, rows[0].price) == ("m", "d", 2, 1.0)
    assert [row.at for row in store.queries(limit=3)] == [T0 + 270.0, T0 + 240.0, T0 + 210.0]
    with pytest.raises(InvalidInput, match="buckets"):
        store.history(since=T0, until=T0 + 1e9, width=1.0)


def test_alarms_and_notes(store):
    store.alarm("a", "prada", 0.87, now=T0, queries=120)
    store.alarm("b", "coverage", 0.5, now=T0 + 1)
    assert [(a.account, a.kind, a.value) for a in store.alarms()] == [
        ("b", "coverage", 0.5),
        ("a", "prada", 0.87),
    ]
    assert store.alarms(account="a")[0].detail == {"queries": 120}
    assert store.alarms(since=T0 + 2) == []
    store.note("started", now=T0, version="1.0")
    (entry,) = store.journal()
    assert (entry.kind, entry.detail, entry.work) == ("started", {"version": "1.0"}, 0.0)


def test_the_journal_is_read_on_without_gaps_while_others_write(store):
    def write(number):
        for k in range(8):
            used(store, f"account-{number}", T0 + k)

    seen = []
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(write, number) for number in range(4)]
        while True:
            finished = all(future.done() for future in done)
            part = store.journal(after=seen[-1].id if seen else 0, limit=7)
            seen += part
            if finished and not part:
                break
        for future in done:
            future.result()
    assert [e.id for e in seen] == sorted(e.id for e in seen)
    assert len(seen) == 4 * (1 + 2 * 8)  # opened, then admitted and settled eight times
    assert {e.account for e in store.journal(account="account-2")} == {"account-2"}


def test_a_book_that_was_changed_by_hand_is_found(store):
    for name in "abc":
        used(store, name, T0)
    lie = sa.update(schema.accounts).where(schema.accounts.c.id == "b").values(debt=0)
    store._database.write(lambda c: c.execute(lie) and None)
    assert store.unbalanced() == ["b"]


def test_policies_only_go_forward(store):
    store.record_policy(1, "one", now=T0)
    store.record_policy(3, "three", now=T0 + 1)
    store.record_policy(3, "three", now=T0 + 2)  # the second replica
    with pytest.raises(InvalidInput, match="older than version 3"):
        store.record_policy(2, "two", now=T0 + 3)
    with pytest.raises(InvalidInput, match="another text"):
        store.record_policy(3, "changed", now=T0 + 3)
    assert [(p.version, p.active, p.text, p.recorded_at) for p in store.policies()] == [
        (3, True, "three", T0 + 1),
        (1, False, "one", T0),
    ]


def test_keys_are_known_by_their_times_only(store):
    store.record_key(KeyRow("k1", T0, T0 + DAY))
    store.record_key(KeyRow("k2", T0 + DAY, T0 + 2 * DAY))
    store.record_key(KeyRow("k1", T0, T0 + 2 * DAY))
    assert store.keys() == [KeyRow("k2", T0 + DAY, T0 + 2 * DAY), KeyRow("k1", T0, T0 + 2 * DAY)]
    assert set(schema.keys.columns.keys()) == {"kid", "not_before", "not_after"}


def test_ping(store):
    assert 0.0 < store.ping() < 5.0
