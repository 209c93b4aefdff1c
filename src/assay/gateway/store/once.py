"""Insert a row once: of any number of concurrent callers exactly one succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from assay.gateway.store.prepared import Prepared
from assay.gateway.store.schema import claims, horizon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Table

__all__ = ["insert_claim", "insert_new"]


def _claim(kind: Any) -> Any:
    columns = [column.name for column in claims.columns]
    forgotten = select(horizon.c.until).where(horizon.c.until >= bindparam("expires_at", type_=BigInteger))
    row = select(*(bindparam(c.name, type_=c.type) for c in claims.columns)).where(~forgotten.exists())
    return (
        kind(claims)
        .from_select(columns, row, include_defaults=False)
        .on_conflict_do_nothing()
        .returning(claims.c.jti)
    )


_CLAIM = {"sqlite": Prepared(_claim(sqlite_insert)), "postgresql": Prepared(_claim(postgresql_insert))}


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless its key exists; tell whether it was new.

    This is the atomic claim: of any number of concurrent callers exactly one gets True.
    """
    kind = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    key = next(iter(table.primary_key.columns))
    statement = kind(table).on_conflict_do_nothing().returning(key)
    return connection.execute(statement, values).first() is not None


def insert_claim(connection: Connection, values: Mapping[str, Any]) -> bool:
    """Insert a claim unless it was made before, or may have been made and forgotten.

    The sweeper forgets claims only up to a horizon that it has written down, and nothing that
    expired before it can be claimed: a clock that was set back revives no proof.
    """
    return bool(_CLAIM[connection.dialect.name].rows(connection, values))
