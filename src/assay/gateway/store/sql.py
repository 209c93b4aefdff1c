"""The store in SQLite or PostgreSQL: one class made of its request path, administration and questions."""

from __future__ import annotations

import time

from assay.gateway.store.administration import Administration
from assay.gateway.store.engine import Database
from assay.gateway.store.migrations import migrate
from assay.gateway.store.questions import Questions
from assay.gateway.store.requests import Requests
from assay.gateway.store.schema import micro

__all__ = ["SqlStore"]


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
