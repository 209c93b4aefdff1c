"""The sweeper: everything that only gets old is dealt with here, never on the request path."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import BigInteger, bindparam, delete, func, insert, literal, select, update

from assay.gateway.store.base import Retention, StoreDown, Swept
from assay.gateway.store.books import Books
from assay.gateway.store.once import insert_new
from assay.gateway.store.schema import (
    MOVES,
    alarms,
    claims,
    credits_,
    horizon,
    items,
    journal,
    micro,
    queries,
)
from assay.gateway.store.volumes import add_volume, volume_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Connection, Table

    from assay.gateway.policy import VolumePricing
    from assay.gateway.store.base import Store
    from assay.gateway.store.engine import Database

__all__ = ["Sweeper", "sweep"]

_LOG = logging.getLogger(__name__)


def sweep(database: Database, now: float, retention: Retention, volume: VolumePricing | None = None) -> Swept:
    """Do everything that is due, in transactions of at most ``retention.batch`` rows.

    Safe to run in several processes at once. On PostgreSQL the time is never later than the
    database's, so that one replica with a fast clock cannot forget claims that still count.
    Abandoned reservations count towards ``volume`` like answers.
    """
    at = micro(_earliest(database, now))
    batch = retention.batch

    def older(column: ColumnElement[Any], seconds: float) -> ColumnElement[bool]:
        return column < at - micro(seconds)

    return Swept(
        reservations=_repeat(database, lambda c: _bill_abandoned(c, at, retention, volume)),
        credits=_repeat(database, lambda c: _expire_credit(c, at, batch))
        + _trim(
            database,
            credits_,
            (credits_.c.remaining == 0) & older(credits_.c.expires_at, retention.queries),
            batch,
        ),
        claims=_forget_claims(database, at - micro(retention.claims), batch),
        queries=_trim(
            database,
            queries,
            (queries.c.status != "admitted") & older(queries.c.at, retention.queries),
            batch,
        ),
        items=_trim_items(database, at - micro(retention.items), batch),
        journal=_repeat(database, lambda c: _fold_journal(c, at - micro(retention.journal), batch)),
        alarms=_trim(database, alarms, older(alarms.c.at, retention.alarms), batch),
    )


def _earliest(database: Database, now: float) -> float:
    if database.kind != "postgresql":
        return now
    theirs = database.read(
        lambda c: c.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
    )
    return min(now, float(theirs))


def _repeat(database: Database, step: Callable[[Connection], int]) -> int:
    """Run a step until it finds nothing more; others get their turn in between."""
    total = 0
    while done := database.write(step):
        total += done
    return total


def _trim(database: Database, table: Table, where: ColumnElement[bool], batch: int) -> int:
    (key,) = table.primary_key.columns
    some = select(key).where(where).limit(batch).scalar_subquery()
    return _repeat(database, lambda c: c.execute(delete(table).where(key.in_(some))).rowcount)


def _forget_claims(database: Database, before: int, batch: int) -> int:
    """Write down first up to which expiry claims are forgotten, then forget them."""

    def mark(c: Connection) -> None:
        if not insert_new(c, horizon, {"name": "claims", "until": before - 1}):
            c.execute(
                update(horizon)
                .where(horizon.c.name == "claims", horizon.c.until < before)
                .values(until=before - 1)
            )

    database.write(mark)
    return _trim(database, claims, claims.c.expires_at < before, batch)


def _trim_items(database: Database, before: int, batch: int) -> int:
    some = select(items.c.account, items.c.digest).where(items.c.at < before).limit(batch)
    gone = delete(items).where(
        items.c.account == bindparam("owner"), items.c.digest == bindparam("what"), items.c.at < before
    )

    def step(c: Connection) -> int:
        found = [{"owner": r.account, "what": r.digest} for r in c.execute(some)]
        if found:
            c.execute(gone, found)
        return len(found)

    return _repeat(database, step)


def _bill_abandoned(c: Connection, at: int, retention: Retention, volume: VolumePricing | None) -> int:
    """Bill queries whose process died before it could settle or refund: the reservation is the price.

    Whether the answer went out nobody knows; to bill is the side on which nobody gains by
    killing a gateway.
    """
    some = (
        select(queries.c.id)
        .where(queries.c.status == "admitted", queries.c.at < at - micro(retention.reservations))
        .order_by(queries.c.account, queries.c.at)
        .limit(min(retention.batch, 50))
    )
    found = list(c.execute(some).scalars())
    # Accounts are locked in one order everywhere, so two sweepers cannot block each other.
    for query in found:
        locked = Books.lock_query(c, query, at)
        if locked is None or locked[1].status != "admitted":
            continue  # another sweeper was faster
        books, open_query = locked
        books.unreserve(open_query.reserved, open_query.at)
        books.price(open_query.reserved, pending=books["pending"], pending_items=books["pending_items"])
        counted = volume_of(c, books["id"], volume, books.now, lock=True)
        if counted is not None:
            add_volume(c, books["id"], counted + open_query.n_items, books.now)
        values = {"id": query, "status": "expired", "settled_at": books.now, "price": open_query.reserved}
        books.post("abandoned", closed=values)
    return len(found)


def _expire_credit(c: Connection, at: int, batch: int) -> int:
    some = (
        select(credits_.c.account)
        .where(credits_.c.remaining > 0, credits_.c.expires_at <= at)
        .distinct()
        .order_by(credits_.c.account)
        .limit(min(batch, 50))
    )
    found = list(c.execute(some).scalars())
    for account in found:
        books = Books.lock(c, account, at)
        if books is not None and books.touched:
            books.post("expire")
    return len(found)


def _fold_journal(c: Connection, before: int, batch: int) -> int:
    """Replace old entries of an account by one entry with their sums: the balance stays."""
    old = (journal.c.at < before) & (journal.c.kind != "carried")
    account = c.execute(select(journal.c.account).where(old).order_by(journal.c.id).limit(1)).scalar()
    if account is None:
        return 0
    # The account's lock keeps two sweepers from folding the same entries.
    Books.lock(c, account, before)
    mine = (journal.c.account == account) & (journal.c.at < before)
    kept = c.execute(select(journal.c.id).where(mine, journal.c.kind == "carried")).scalars().all()
    ids = [*kept, *c.execute(select(journal.c.id).where(mine & old).limit(batch)).scalars()]
    chosen = journal.c.id.in_(ids)
    sums = (func.coalesce(func.sum(journal.c[name]), 0).cast(BigInteger) for name in MOVES)
    constants = {"kind": "carried", "account": account, "query_id": "", "jti": "", "detail": "{}"}
    fixed = [literal(value).label(name) for name, value in constants.items()]
    entry = select(literal(before - 1, BigInteger).label("at"), *fixed, *sums).where(chosen)
    c.execute(insert(journal).from_select(["at", *constants, *MOVES], entry))
    return int(c.execute(delete(journal).where(chosen)).rowcount) - len(kept)


class Sweeper:
    """Sweeps a store in a background thread until it is stopped.

    Parameters
    ----------
    store
        What to sweep.
    clock
        Seconds since the epoch; never running backwards.
    every
        Seconds between sweeps.
    retention
        How long things are kept.
    on_error
        Called with a `StoreDown`; the next sweep comes anyway.

    Examples
    --------
    >>> from assay.gateway.store.sql import SqlStore
    >>> store = SqlStore("sqlite://")
    >>> with Sweeper(store, every=60.0):
    ...     store.account("a") is None
    True
    >>> store.close()
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        every: float = 30.0,
        retention: Retention | None = None,
        on_error: Callable[[StoreDown], None] | None = None,
    ) -> None:
        self._store, self._clock, self._every = store, clock, every
        self._retention = retention or Retention()
        self._on_error = on_error
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assay-sweeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it; a sweep that runs is finished first."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self._store.sweep(self._clock(), self._retention)
            except StoreDown as error:
                _LOG.warning("the sweeper could not reach the store: %s", error)
                if self._on_error is not None:
                    self._on_error(error)
