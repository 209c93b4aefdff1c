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

__all__ = ["CLOSING", "write_down"]

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


def _statements(query: Insert | Update | None) -> dict[str, tuple[Prepared, ...]]:
    """Return the statements for each kind of database."""
    apart = (_save(), *(() if query is None else (query,)), _log())
    together = _log().add_cte(_save().cte("saved"))
    if query is not None:
        together = together.add_cte(query.cte("asked"))
    return {"sqlite": tuple(map(Prepared, apart)), "postgresql": (Prepared(together),)}


_NO_QUERY = _statements(None)
_NEW_QUERY = _statements(_open())
_CLOSED: dict[tuple[str, ...], dict[str, tuple[Prepared, ...]]] = {
    columns: _statements(_close(columns)) for columns in (CLOSING, CLOSING[:2], CLOSING[:3])
}


def write_down(
    connection: Connection,
    account: Mapping[str, Any],
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
        The whole row.
    entry
        The whole journal entry but its number.
    opened
        The whole row of a new query.
    closed
        Identifier and new values of a query: the first two, three or all of `CLOSING`.
    """
    values = {_ACCOUNT + name: value for name, value in account.items()}
    values.update((_JOURNAL + name, value) for name, value in entry.items())
    query = opened or closed
    if query is not None:
        values.update((_QUERY + name, value) for name, value in query.items())
    if opened is not None:
        chosen = _NEW_QUERY
    elif closed is not None:
        chosen = _CLOSED[tuple(name for name in CLOSING if name in closed)]
    else:
        chosen = _NO_QUERY
    for statement in chosen[connection.dialect.name]:
        statement.run(connection, values)
