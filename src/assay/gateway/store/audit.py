"""Whether the books balance: every account against its journal, its credit and its open queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from assay.gateway.store.schema import MOVES, accounts, credits_, journal, queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

__all__ = ["unbalanced"]


def unbalanced(connection: Connection) -> Sequence[str]:
    """Return the identifiers of the accounts that do not balance, in order.

    Needs a view of one moment: SQLite's transactions have it, on PostgreSQL the caller's
    single statement does, which is why all sums are sub-queries of one select.
    """
    sums = (
        select(journal.c.account, *(func.sum(journal.c[name]).label(name) for name in MOVES))
        .group_by(journal.c.account)
        .subquery()
    )
    lots = (
        select(credits_.c.account, func.sum(credits_.c.remaining).label("remaining"))
        .group_by(credits_.c.account)
        .subquery()
    )
    held = (
        select(queries.c.account, func.sum(queries.c.reserved).label("held"))
        .where(queries.c.status == "admitted")
        .group_by(queries.c.account)
        .subquery()
    )

    def total(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.coalesce(column, 0)

    s, a = sums.c, accounts.c
    owed = total(s.price) + total(s.expired) + total(s.deposit)
    law = owed - total(s.work) - total(s.released) - total(s.refund)
    wrong = (
        (a.work_paid != total(s.work))
        | (a.deposited != total(s.deposit))
        | (a.released != total(s.released))
        | (a.debt != total(s.debt))
        | (a.credit != total(s.credit))
        | (a.reserved != total(s.reserved))
        | (a.credit != total(lots.c.remaining))
        | (a.reserved != total(held.c.held))
        | (a.pending != total(s.pending))
        | (a.debt - a.credit + a.pending != law)
        | ((a.debt > 0) & (a.credit > 0))
    )
    asked = (
        select(a.id)
        .select_from(
            accounts.outerjoin(sums, sums.c.account == a.id)
            .outerjoin(lots, lots.c.account == a.id)
            .outerjoin(held, held.c.account == a.id)
        )
        .where(wrong)
        .order_by(a.id)
    )
    return list(connection.execute(asked).scalars())
