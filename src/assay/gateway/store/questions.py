"""What an operator asks: accounts, queries over time, alarms, the journal, and whether it balances."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sqlalchemy import case, func, select

from assay.errors import InvalidInput
from assay.gateway.pricing.volume import decayed
from assay.gateway.store.base import AccountView, AlarmRow, CustomerRow, JournalRow, QueryRow, TimeBucket
from assay.gateway.store.books import state_of
from assay.gateway.store.engine import Backed
from assay.gateway.store.schema import accounts, alarms, customers, journal, micro, queries, unmicro, volumes
from assay.gateway.store.volumes import COUNTED, customer_of, members_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row, Select

    from assay.gateway.policy import VolumePricing

__all__ = ["Questions"]

_ORDERS = {
    "recent": accounts.c.updated_at,
    "debt": accounts.c.debt,
    "work": accounts.c.work_paid,
    "queries": accounts.c.queries,
    "cusum": accounts.c.cusum,
    "epsilon": accounts.c.epsilon,
}
_BESIDE = (
    customers.c.name.label("customer"),
    volumes.c["items"].label("total"),
    volumes.c.at.label("since"),
)
_MOST = 10_000


class Questions(Backed):
    """Reading only; every answer is bounded."""

    def accounts(
        self,
        *,
        order: Literal["recent", "debt", "work", "queries", "cusum", "epsilon"] = "recent",
        offset: int = 0,
        limit: int = 50,
        prefix: str = "",
        volume: VolumePricing | None = None,
        now: float = 0.0,
    ) -> tuple[Sequence[AccountView], int]:
        """Return one page of accounts, largest first, and how many there are.

        Parameters
        ----------
        order
            What to sort by.
        offset, limit
            The page; at most 10,000 rows.
        prefix
            Only accounts whose identifier starts so.
        volume, now
            With a price by volume, states say what counts for their customers at that time.
        """
        if order not in _ORDERS:
            msg = f"accounts are ordered by {', '.join(_ORDERS)}, not by {order!r}"
            raise InvalidInput(msg)
        where = accounts.c.id.startswith(prefix, autoescape=True)
        page = select(accounts, *_BESIDE).select_from(COUNTED).where(where)
        page = page.order_by(_ORDERS[order].desc(), accounts.c.id)
        count = select(func.count()).select_from(accounts).where(where)

        def work(c: Connection) -> tuple[Sequence[Row[Any]], int]:
            return c.execute(_page(page, limit, offset)).all(), int(c.execute(count).scalar_one())

        rows, total = self._database.read(work)
        return [
            AccountView(
                state_of(r._mapping, _counted(r, volume, now)),  # type: ignore[arg-type]  # noqa: SLF001 - a mapping by column name
                r.day_items,
                unmicro(r.day_work),
                unmicro(r.created_at),
                customer_of(r.customer),
            )
            for r in rows
        ], total

    def customer(self, account_id: str, *, limit: int = 100) -> CustomerRow:
        """Return the customer that an account is taken for, with at most so many of its accounts."""
        name, members = self._database.read(lambda c: members_of(c, account_id, limit))
        return CustomerRow(name, tuple(members))

    def queries(
        self,
        *,
        account: str | None = None,
        since: float = 0.0,
        until: float | None = None,
        limit: int = 100,
    ) -> Sequence[QueryRow]:
        """Return admitted requests between two times, newest first."""
        asked = (
            select(queries).where(queries.c.at >= micro(since)).order_by(queries.c.at.desc(), queries.c.id)
        )
        if until is not None:
            asked = asked.where(queries.c.at < micro(until))
        if account is not None:
            asked = asked.where(queries.c.account == account)
        return [
            QueryRow(
                id=r.id,
                at=unmicro(r.at),
                account=r.account,
                model=r.model,
                digest=r.digest,
                n_items=r.n_items,
                status=r.status,
                reserved=unmicro(r.reserved),
                price=unmicro(r.price),
                multiplier=r.multiplier,
                flags=tuple(filter(None, r.flags.split(","))),
                log_q=tuple(np.frombuffer(r.log_q, dtype="<f4").tolist()),
                policy_version=r.policy_version,
            )
            for r in self._all(_page(asked, limit))
        ]

    def history(
        self, *, since: float, until: float, width: float = 3600.0, account: str | None = None
    ) -> Sequence[TimeBucket]:
        """Return queries over time in buckets of ``width`` seconds, oldest first, gaps left out.

        Raises
        ------
        InvalidInput
            If the width is not positive or would make more than 10,000 buckets.
        """
        if not width > 0.0 or not since < until or (until - since) / width > _MOST:
            msg = f"a history has 1 to {_MOST} buckets, got {since} to {until} in steps of {width} seconds"
            raise InvalidInput(msg)
        step = micro(width)
        bucket = ((queries.c.at - micro(since)) // step).label("bucket")
        asked = (
            select(
                bucket,
                func.count().label("queries"),
                func.sum(queries.c.n_items).label("items"),
                func.sum(queries.c.price).label("units"),
                func.sum(case((queries.c.flags.contains("alarm"), 1), else_=0)).label("alarms"),
                func.count(queries.c.account.distinct()).label("accounts"),
            )
            .where(queries.c.at >= micro(since), queries.c.at < micro(until))
            .group_by("bucket")
            .order_by("bucket")
        )
        if account is not None:
            asked = asked.where(queries.c.account == account)
        return [
            TimeBucket(
                start=since + int(r.bucket) * width,
                queries=int(r.queries),
                items=int(r.items),
                units=unmicro(int(r.units)),
                alarms=int(r.alarms),
                accounts=int(r.accounts),
            )
            for r in self._all(asked)
        ]

    def alarms(
        self, *, account: str | None = None, since: float = 0.0, limit: int = 100
    ) -> Sequence[AlarmRow]:
        """Return alarms, newest first."""
        asked = (
            select(alarms).where(alarms.c.at >= micro(since)).order_by(alarms.c.at.desc(), alarms.c.id.desc())
        )
        if account is not None:
            asked = asked.where(alarms.c.account == account)
        return [
            AlarmRow(r.id, unmicro(r.at), r.account, r.kind, r.value, json.loads(r.detail))
            for r in self._all(_page(asked, limit))
        ]

    def journal(
        self, *, after: int = 0, limit: int = 1000, account: str | None = None
    ) -> Sequence[JournalRow]:
        """Return journal entries with an id above ``after``, oldest first.

        Reading on from the last id never misses an entry, whoever writes meanwhile. An entry
        of kind ``carried`` holds the sums of older entries that it replaced.
        """
        asked = select(journal).where(journal.c.id > after).order_by(journal.c.id)
        if account is not None:
            asked = asked.where(journal.c.account == account)
        if self._database.kind == "postgresql":
            # Numbers are given before the commit. Once nobody is writing, what has a number up to
            # here is either visible or gone; the lock is held for this one question only.
            def last(c: Connection) -> int:
                c.exec_driver_sql("LOCK TABLE journal IN SHARE MODE")
                return int(c.execute(select(func.coalesce(func.max(journal.c.id), 0))).scalar_one())

            asked = asked.where(journal.c.id <= self._database.write(last))
        return [
            JournalRow(
                id=r.id,
                at=unmicro(r.at),
                kind=r.kind,
                account=r.account,
                query_id=r.query_id,
                jti=r.jti,
                work=unmicro(r.work),
                deposit=unmicro(r.deposit),
                price=unmicro(r.price),
                released=unmicro(r.released),
                refund=unmicro(r.refund),
                expired=unmicro(r.expired),
                debt=unmicro(r.debt),
                credit=unmicro(r.credit),
                pending=unmicro(r.pending),
                reserved=unmicro(r.reserved),
                detail=json.loads(r.detail),
            )
            for r in self._all(_page(asked, limit))
        ]

    def unbalanced(self) -> Sequence[str]:
        """Return the accounts whose books are not what their journal adds up to.

        Always empty, or a defect. Compares debt, credit, reservations, work paid, deposit and
        released deposit with the journal's sums, credit with the open lots, reservations with
        the open queries, and the journal's own law for every account.
        """
        from assay.gateway.store.audit import unbalanced

        return self._database.read(unbalanced)

    def _all(self, asked: Select[Any]) -> Sequence[Row[Any]]:
        return self._database.read(lambda c: c.execute(asked).all())


def _counted(row: Row[Any], volume: VolumePricing | None, now: float) -> float | None:
    if volume is None or not volume.active:
        return None
    return 0.0 if row.total is None else decayed(volume, row.total, now - unmicro(row.since))


def _page(asked: Select[Any], limit: int, offset: int = 0) -> Select[Any]:
    if not 1 <= limit <= _MOST or offset < 0:
        msg = f"a page has 1 to {_MOST} rows from a position that is not negative, got {limit} from {offset}"
        raise InvalidInput(msg)
    return asked.limit(limit).offset(offset)
