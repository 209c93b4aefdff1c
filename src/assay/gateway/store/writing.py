"""What a transaction writes last: the account, its query and the journal entry, together.

PostgreSQL gets them as one statement, because a round trip to the server costs more than
the work; SQLite, which is in the same process, gets them one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, update

from assay.gateway.store.prepared import Prepared
from assay.gateway.store.schema import accounts, journal, queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Insert, Table, Update

__all__ = ["CLOSING", "write_account", "write_down"]

CLOSING = ("status", "settled_at", "price", "multiplier", "flags", "log_q")
"""The columns of a query that its end may change."""

# Plain names are what SQLAlchemy takes for values to set, so every parameter has a prefix.
_ACCOUNT, _QUERY, _JOURNAL = "a_", "q_", "j_"


def _bound(table: Table, prefix: str, without: str = "") -> dict[str, Any]:
    return {c.name: bindparam(prefix + c.name, type_=c.type) for c in table.columns if c.name != without}


def _save() -> Update:
    mine = accounts.c.id == bindparam("a_id", type_=accounts.c.id.type)
    return update(accounts).where(mine).values(_bound(accounts, _ACCOUNT, "id"))


def _log() -> Insert:
    return insert(journal).values(_bound(journal, _JOURNAL, "id")).inline()


def _open() -> Insert:
    return insert(queries).values(_bound(queries, _QUERY)).inline()


def _close(columns: Sequence[str]) -> Update:
    mine = queries.c.id == bindparam("q_id", type_=queries.c.id.type)
    values = {name: bindparam(_QUERY + name, type_=queries.c[name].type) for name in columns}
    return update(queries).where(mine).values(values)


def _statements(query: Insert | Update | None, *, save: bool = True) -> dict[str, tuple[Prepared, ...]]:
    """Return the statements for each kind of database."""
    apart = (*((_save(),) if save else ()), *(() if query is None else (query,)), _log())
    together = _log()
    if save:
        together = together.add_cte(_save().cte("saved"))
    if query is not None:
        together = together.add_cte(query.cte("asked"))
    return {"sqlite": tuple(map(Prepared, apart)), "postgresql": (Prepared(together),)}


_NO_QUERY = _statements(None)
_NEW_QUERY = _statements(_open())
_CLOSED: dict[tuple[str, ...], dict[str, tuple[Prepared, ...]]] = {
    columns: _statements(_close(columns)) for columns in (CLOSING, CLOSING[:2], CLOSING[:3])
}
_CLOSED_ONLY = _statements(_close(CLOSING), save=False)
_SAVED = Prepared(_save())


def write_down(
    connection: Connection,
    account: Mapping[str, Any] | None,
    entry: Mapping[str, Any],
    *,
    opened: Mapping[str, Any] | None = None,
    closed: Mapping[str, Any] | None = None,
) -> None:
    """Write the account's row, one journal entry, and a query that begins or ends.

    Parameters
    ----------
    connection
        The open transaction, which holds the account's lock (and the query's).
    account
        The whole row; None where a query ends, and `write_account` comes later in the transaction.
    entry
        The whole journal entry but its number.
    opened
        The whole row of a new query.
    closed
        Identifier and new values of a query: the first two, three or all of `CLOSING`.
    """
    values = _prefixed(_JOURNAL, entry) | _prefixed(_ACCOUNT, account or {})
    query = opened or closed
    if query is not None:
        values |= _prefixed(_QUERY, query)
    if opened is not None:
        chosen = _NEW_QUERY
    elif closed is None:
        chosen = _NO_QUERY
    elif account is None:
        chosen = _CLOSED_ONLY
    else:
        chosen = _CLOSED[tuple(name for name in CLOSING if name in closed)]
    for statement in chosen[connection.dialect.name]:
        statement.run(connection, values)


def write_account(connection: Connection, account: Mapping[str, Any]) -> None:
    """Write the account's row alone."""
    _SAVED.run(connection, _prefixed(_ACCOUNT, account))


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in values.items()}
