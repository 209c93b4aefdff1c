"""Connections: one URL, two databases, transactions that either happened or raise StoreDown."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import create_engine, event, exc, make_url, pool

from assay.errors import InvalidInput, MissingDependency
from assay.gateway.store.base import StoreBusy, StoreDown
from assay.gateway.store.prepared import on_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import URL, Connection, Engine

__all__ = ["Backed", "Database"]

T = TypeVar("T")

_ATTEMPTS = 4
_DOWN = "the store does not answer ({}); the request is denied, try again later"
_BUSY = "the store is busy; wait for it"
_WRITE = "assay_write"
_BEGUN = "assay_begun"
# A checkpoint copies the write-ahead log into the database and waits for the disk. `relieve` does
# it off the request path, after so many commits (some 13 MB); the bound in pages of 4 KiB only
# guards a store that nobody relieves.
_WAL_COMMITS = 300
_WAL_PAGES = 16_384


def _parse(url: str) -> URL:
    """Read the URL and choose the driver that this package installs."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        msg = "the store's URL is not one: use sqlite:///gateway.db or postgresql://user@host/database"
        raise InvalidInput(msg) from error
    name = parsed.get_backend_name()
    if name == "sqlite":
        return parsed
    if name in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    msg = f"the store cannot be a {name!r} database: use sqlite:///gateway.db or postgresql://user@host/database"
    raise InvalidInput(msg)


class Database:
    """An engine with two verbs: `read` and `write`, each one transaction.

    SQLite: write-ahead log with ``synchronous=NORMAL`` (a killed process loses nothing that
    was committed; a power failure may lose the last moments, for which ``?synchronous=FULL``
    is the remedy). Writers of one process queue on a lock, because SQLite lets waiting
    connections poll. PostgreSQL: row locks at READ COMMITTED, time-outs on everything.

    Parameters
    ----------
    url
        ``sqlite:///file``, ``sqlite://`` (memory, one process) or ``postgresql://...``.
    pool_size
        Connections, at most.
    timeout
        Seconds after which a lock, a statement or a connection counts as down.

    Raises
    ------
    InvalidInput
        For another kind of URL.

    Examples
    --------
    >>> database = Database("sqlite://")
    >>> database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    1
    >>> database.close()
    """

    def __init__(self, url: str, *, pool_size: int = 8, timeout: float = 5.0) -> None:
        parsed = _parse(url)
        self._timeout = timeout
        self.kind = parsed.get_backend_name()
        self._writer: threading.RLock | None = None
        self._reader: threading.RLock | None = None
        self._own: Connection | None = None  # of `write_at_once`
        self._commits = 0
        self.at_once = False
        self.engine = self._sqlite(parsed) if self.kind == "sqlite" else self._postgresql(parsed, pool_size)
        # A single statement needs no transaction around it, which would be two round trips more.
        self._reading = (
            self.engine
            if self.kind == "sqlite"
            else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        )

    def _sqlite(self, url: URL) -> Engine:
        synchronous = str(url.query.get("synchronous", "NORMAL")).upper()
        if synchronous not in ("NORMAL", "FULL", "EXTRA"):
            msg = f"synchronous must be NORMAL, FULL or EXTRA, got {synchronous!r}"
            raise InvalidInput(msg)
        url = url.difference_update_query(["synchronous"])
        memory = url.database in (None, "", ":memory:")
        self._writer = threading.RLock()
        self._reader = self._writer if memory else None
        # Writing to the system's cache takes no time to speak of; writing to the disk would.
        self.at_once = not memory and synchronous == "NORMAL"
        engine = create_engine(
            url,
            poolclass=pool.StaticPool if memory else pool.QueuePool,
            connect_args={"timeout": self._timeout, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def _prepare(dbapi: Any, _record: object) -> None:
            dbapi.isolation_level = None  # the driver must not begin transactions by itself
            _switch_to_wal(dbapi, self._timeout)
            for pragma in (
                f"synchronous={synchronous}",
                f"busy_timeout={int(self._timeout * 1000)}",
                f"wal_autocheckpoint={_WAL_PAGES}",
                "temp_store=MEMORY",
            ):
                dbapi.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # IMMEDIATE takes the write lock before the first read: nothing changes in between.
            options = connection.get_execution_options()
            if not options.get(_BEGUN, False):
                on_driver(connection, "BEGIN IMMEDIATE" if options.get(_WRITE, False) else "BEGIN")

        return engine

    def _postgresql(self, url: URL, pool_size: int) -> Engine:
        milliseconds = int(self._timeout * 1000)
        options = (
            f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} "
            f"-c idle_in_transaction_session_timeout={4 * milliseconds} -c timezone=UTC"
        )
        given = url.query.get("options", "")
        options = f"{given if isinstance(given, str) else ' '.join(given)} {options}".strip()
        url = url.difference_update_query(["options"])
        arguments: dict[str, Any] = {"connect_timeout": max(2, int(self._timeout)), "options": options}
        try:
            return create_engine(
                url,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=self._timeout,
                pool_recycle=1800,
                connect_args=arguments,
                isolation_level="READ COMMITTED",
            )
        except ImportError as error:
            msg = "a PostgreSQL store needs the package psycopg: install assay-ml[postgresql]"
            raise MissingDependency(msg) from error

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work``, which changes nothing; on PostgreSQL each of its statements sees its own moment."""
        return self._run(work, write=False)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` and commit; it is rolled back when it raises.

        ``work`` may run again after a lost connection or a deadlock, but never once a commit
        was sent: what a failed commit leaves open is reported as `StoreDown`.

        Raises
        ------
        StoreDown
            If the database does not answer, in which case the caller must assume nothing.
        """
        return self._run(work, write=True)

    def write_at_once(self, work: Callable[[Connection], T]) -> T:
        """Write like `write`, in a fraction of a millisecond or not at all.

        For SQLite in its usual setting: a caller that must not be held up, such as an event loop,
        spares itself the way to another thread and back, which costs more than the transaction.

        Raises
        ------
        StoreBusy
            If somebody else is writing, or this database is one to wait for; nothing happened.
        StoreDown
            If the commit failed.
        """
        if not self.at_once or self._writer is None or not self._writer.acquire(blocking=False):
            raise StoreBusy(_BUSY)
        committing = False
        try:
            if self._own is None:
                self._own = self.engine.connect().execution_options(**{_BEGUN: True})
                on_driver(self._own, "PRAGMA busy_timeout=0")  # other processes may write, too
                on_driver(self._own, "PRAGMA wal_autocheckpoint=0")
            # Begun and ended on the driver: SQLAlchemy's own way costs as much as the statements.
            on_driver(self._own, "BEGIN IMMEDIATE")
            result = work(self._own)
            committing = True
            on_driver(self._own, "COMMIT")
            self._commits += 1
        except exc.DBAPIError as error:
            if committing:
                raise StoreDown(_DOWN.format(type(error).__name__)) from error
            raise StoreBusy(_BUSY) from error  # what else is wrong is found by `write`
        else:
            return result
        finally:
            if self._own is not None:
                if self._own.connection.in_transaction:
                    on_driver(self._own, "ROLLBACK")
                if self._own.in_transaction():  # statements that went through SQLAlchemy
                    self._own.rollback()
            self._writer.release()

    def _run(self, work: Callable[[Connection], T], *, write: bool) -> T:
        failure: Exception | None = None
        for attempt in range(_ATTEMPTS):
            committing = False
            try:
                engine = self.engine if write else self._reading
                with self._turn(write=write), engine.connect() as connection:
                    if write:
                        connection.execution_options(**{_WRITE: True})
                    with connection.begin() as transaction:
                        result = work(connection)
                        if write:
                            committing = True
                            transaction.commit()
                            self._commits += 1
                    return result
            except exc.DBAPIError as error:
                failure = error
                if isinstance(error, (exc.ProgrammingError, exc.DataError, exc.IntegrityError)):
                    raise  # a defect of ours, not of the database
                if committing or not _transient(error):
                    break
            except exc.TimeoutError as error:  # the pool is empty
                failure = error
                break
            time.sleep(0.01 * attempt)
        raise StoreDown(_DOWN.format(type(failure).__name__)) from failure

    @contextlib.contextmanager
    def _turn(self, *, write: bool) -> Iterator[None]:
        """Wait for this process's turn, where the database has no fair queue of its own."""
        lock = self._writer if write else self._reader
        if lock is None:
            yield
            return
        if not lock.acquire(timeout=self._timeout):
            msg = "the store is too busy to answer; the request is denied, try again later"
            raise StoreDown(msg)
        try:
            yield
        finally:
            lock.release()

    def relieve(self) -> None:
        """Checkpoint if much was written since the last time; for a thread that may wait for the disk."""
        if self._commits >= _WAL_COMMITS:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Copy SQLite's write-ahead log into the database, so that it begins anew.

        Most of it while others write; they wait only for what they have written in the meantime.
        """
        if self.kind != "sqlite":
            return
        self._commits = 0
        with contextlib.suppress(exc.DBAPIError, StoreDown), self.engine.connect() as connection:
            on_driver(connection, "PRAGMA wal_checkpoint(PASSIVE)")
            with self._turn(write=True):
                on_driver(connection, "PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close all connections."""
        if self._own is not None:
            self._own.close()
        self.engine.dispose()


def _switch_to_wal(dbapi: Any, timeout: float) -> None:
    """Set the journal mode; SQLite does not wait for others that set it at the same time, so this does."""
    until = time.monotonic() + timeout
    while True:
        try:
            dbapi.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _transient(error: exc.DBAPIError) -> bool:
    """Tell a lost connection or a deadlock, after which the work may run again."""
    if error.connection_invalidated:
        return True
    return getattr(error.orig, "sqlstate", None) in ("40001", "40P01")


class Backed:
    """A part of the store: it has the database."""

    _database: Database
