"""The store in SQLite or PostgreSQL: one class made of its request path, administration and questions."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from assay.errors import InvalidInput
from assay.gateway.store.administration import Administration
from assay.gateway.store.engine import Database
from assay.gateway.store.migrations import migrate
from assay.gateway.store.questions import Questions
from assay.gateway.store.requests import Requests
from assay.gateway.store.schema import micro

__all__ = ["SqlStore", "open_books"]


class SqlStore(Requests, Administration, Questions):
    """A `Store` in SQLite or PostgreSQL; brings the schema up to date when it opens.

    Parameters
    ----------
    url
        ``sqlite:///gateway.db``, ``sqlite://`` (memory) or ``postgresql://user@host/database``.
    pool_size
        Most connections (PostgreSQL); the server's thread pool should not be larger.
    timeout
        Seconds after which the database counts as down.

    Raises
    ------
    InvalidInput
        If the URL is of another kind, or the schema newer than this code.
    StoreDown
        If the database cannot be reached.

    Examples
    --------
    >>> from assay.gateway.admission import request_terms
    >>> from assay.gateway.policy import Policy
    >>> from assay.gateway.store.base import Claim
    >>> store = SqlStore("sqlite://")
    >>> terms = request_terms(Policy())
    >>> ask = store.admit("a", n_items=3, terms=terms, now=1e9)
    >>> ask.decision, ask.deposit, ask.due_units
    ('price', True, 128.0)
    >>> paid = Claim("0f" * 16, exp=1e9 + 60, units=128.0, deposit=True)
    >>> entry = store.admit("a", n_items=3, terms=terms, now=1e9, claim=paid)
    >>> entry.decision, entry.reserved_units
    ('serve', 6.0)
    >>> store.charge(entry.query_id, 4.5, now=1e9).state.debt
    4.5
    >>> store.admit("a", n_items=3, terms=terms, now=1e9, claim=paid).decision
    'replay'
    >>> store.unbalanced()
    []
    >>> store.close()
    """

    def __init__(self, url: str, *, pool_size: int = 8, timeout: float = 5.0) -> None:
        self._database = Database(url, pool_size=pool_size, timeout=timeout)
        now = micro(time.time())
        try:
            self._database.write(lambda connection: migrate(connection, now))
        except BaseException:
            self._database.close()
            raise

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._database.kind

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


def open_books(url: str) -> SqlStore:
    """Open a store that a gateway has made, for administration.

    Raises
    ------
    InvalidInput
        If an SQLite file is not there: to look must not make an empty one.
    StoreDown
        If the database cannot be reached.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        return SqlStore(url)  # which says what is wrong with it
    file = parsed.database
    if parsed.get_backend_name() == "sqlite" and not (file and Path(file).is_file()):
        msg = f"there is no store at {file or 'that address'}; name the one that the gateway uses"
        raise InvalidInput(msg)
    return SqlStore(url)
