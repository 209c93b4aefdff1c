"""Double-entry books of one account, inside one transaction.

`Books` holds the locked row. Every change of debt, credit, reservation or work goes
through one of its verbs, and `Books.post` writes the row and one journal entry with
the same differences, so that a journal and a row can never disagree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sqlalchemy import bindparam, insert, select, update

from assay.gateway.account import AccountState
from assay.gateway.pricing.budgets import Usage
from assay.gateway.store.once import insert_new
from assay.gateway.store.prepared import Prepared
from assay.gateway.store.schema import MICRO, MOVES, accounts, credits_, journal, queries, unmicro
from assay.gateway.store.writing import write_account, write_down

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

__all__ = ["Books", "OpenQuery", "state_of"]

_DAY = 86_400 * MICRO
_CAUSES, _FIELDS = MOVES[:6], MOVES[6:]
_ZERO = (
    *_FIELDS, "queries", "work_paid", "deposited", "released",
    "pending_items", "admitted_at", "day_items", "day_work",
)  # fmt: skip

_COLUMNS = tuple(accounts.columns.keys())
_QUERY = ("at", "n_items", "status", "reserved", "price")
_LOCK = Prepared(select(accounts).where(accounts.c.id == bindparam("id")).with_for_update())
# Both rows are locked, so that the query's status is still true after waiting for the account.
_LOCK_QUERY = Prepared(
    select(accounts, *(queries.c[n].label(f"q_{n}") for n in _QUERY))
    .join(queries, queries.c.account == accounts.c.id)
    .where(queries.c.id == bindparam("query"))
    .with_for_update()
)
_LOCK_ANOTHER = Prepared(
    select(*(queries.c[n] for n in _QUERY))
    .where(queries.c.id == bindparam("query"), queries.c.account == bindparam("owner"))
    .with_for_update()
)
_LOTS = Prepared(
    select(credits_.c.id, credits_.c.remaining, credits_.c.expires_at)
    .where(credits_.c.account == bindparam("account"), credits_.c.remaining > 0)
    .order_by(credits_.c.expires_at, credits_.c.id)
)
_SPEND = (
    update(credits_)
    .where(credits_.c.id == bindparam("lot"))
    .values(remaining=bindparam("left"), spent_at=bindparam("at"))
)


def state_of(row: Mapping[str, Any], volume: float | None = None) -> AccountState:
    """Return an account's row as the state that pricing rules see."""
    return AccountState(
        id=row["id"],
        tier=row["tier"],
        queries=row["queries"],
        work_paid=unmicro(row["work_paid"]),
        debt=unmicro(row["debt"]),
        credit=unmicro(row["credit"]),
        reserved=unmicro(row["reserved"]),
        pending=unmicro(row["pending"]),
        pending_items=row["pending_items"],
        cusum=row["cusum"],
        rdp=tuple(np.frombuffer(row["rdp"], dtype="<f8").tolist()),
        epsilon=row["epsilon"],
        deposited=unmicro(row["deposited"]),
        released=unmicro(row["released"]),
        updated_at=unmicro(row["updated_at"]),
        volume=volume,
    )


@dataclass(frozen=True, slots=True)
class OpenQuery:
    """What the store knows of a query that is about to end."""

    id: str
    at: int
    n_items: int
    status: str
    reserved: int
    price: int


@dataclass(slots=True)
class _Lot:
    id: int | None
    remaining: int
    expires_at: int
    changed: bool = False


class Books:
    """The locked row of one account and what this transaction does to it.

    Parameters
    ----------
    connection
        The open transaction.
    row
        The account's row, locked; it is changed in place.
    now
        Microseconds since the epoch.

    Attributes
    ----------
    volume
        What counts for the account's customer, if that is counted.
    """

    def __init__(self, connection: Connection, row: dict[str, Any], now: int) -> None:
        self._connection = connection
        # Replicas' clocks differ a little; an account's own time never runs backwards.
        self.now = max(now, row["updated_at"])
        self.row = row
        self._before = {name: self.row[name] for name in _FIELDS}
        self._entry = dict.fromkeys(_CAUSES, 0)
        self._lots: list[_Lot] | None = None
        self._unsaved = False
        self.volume: float | None = None
        self._roll_day()
        self._expire()

    @classmethod
    def lock(cls, connection: Connection, account_id: str, now: int) -> Self | None:
        """Lock the account until the transaction ends; None when it does not exist."""
        found = _LOCK.rows(connection, {"id": account_id})
        return cls(connection, dict(zip(_COLUMNS, found[0], strict=True)), now) if found else None

    @classmethod
    def lock_query(cls, connection: Connection, query_id: str, now: int) -> tuple[Self, OpenQuery] | None:
        """Lock a query and its account; None when there is no such query."""
        found = _LOCK_QUERY.rows(connection, {"query": query_id})
        if not found:
            return None
        width = len(_COLUMNS)
        books = cls(connection, dict(zip(_COLUMNS, found[0][:width], strict=True)), now)
        return books, OpenQuery(query_id, *found[0][width:])

    def lock_another(self, query_id: str) -> OpenQuery | None:
        """Lock one more query of this account; None when there is none, or somebody else's."""
        found = _LOCK_ANOTHER.rows(self._connection, {"query": query_id, "owner": self.row["id"]})
        return OpenQuery(query_id, *found[0]) if found else None

    @classmethod
    def open(cls, connection: Connection, account_id: str, tier: str, now: int) -> Self:
        """Lock the account, which is created when it does not exist."""
        zero = dict.fromkeys(_ZERO, 0)
        fresh = {
            "id": account_id,
            "tier": tier,
            "created_at": now,
            "updated_at": now,
            "admitted_at": 0,
            "day": now // _DAY,
        }
        new = insert_new(connection, accounts, zero | fresh | {"cusum": 0.0, "epsilon": 0.0, "rdp": b""})
        (row,) = _LOCK.rows(connection, {"id": account_id})
        books = cls(connection, dict(zip(_COLUMNS, row, strict=True)), now)
        if new:
            books.note("open", detail={"tier": tier})
        return books

    def __getitem__(self, name: str) -> Any:
        return self.row[name]

    @property
    def state(self) -> AccountState:
        """The account as pricing rules see it, with what happened so far."""
        return state_of(self.row | {"updated_at": self.now}, self.volume)

    @property
    def usage(self) -> Usage:
        """What the account did today."""
        return Usage(
            queries=self.row["day_items"],
            work=unmicro(self.row["day_work"]),
            seconds_left=unmicro(_DAY - self.now % _DAY),
            idle_seconds=unmicro(max(0, self.now - self.row["admitted_at"])),
        )

    @property
    def touched(self) -> bool:
        """Whether anything moved that must be written down."""
        return any(self._entry.values()) or any(self.row[name] != self._before[name] for name in _FIELDS)

    # --- the verbs ---------------------------------------------------------------------
    def work(self, units: int, expires_at: int, *, deposit: int = 0) -> None:
        """Book delivered work: ``deposit`` of it as deposit, then against debt, the rest as credit."""
        self.row["work_paid"] += units
        self.row["deposited"] += deposit
        self._entry["work"] += units
        self._entry["deposit"] += deposit
        self._give(units - deposit, expires_at)

    def price(self, units: int, *, pending: int, pending_items: int) -> None:
        """Book a price; ``pending`` of what was and is not billed stays off the bill.

        Credit that ends first is used first; what is left of the bill is debt.
        """
        self._entry["price"] += units
        self.row["day_work"] += units
        units += self.row["pending"] - pending
        self.row.update(pending=pending, pending_items=pending_items)
        for lot in self._open_lots():
            if not units:
                break
            part = min(units, lot.remaining)
            lot.remaining -= part
            lot.changed = True
            self.row["credit"] -= part
            units -= part
        self.row["debt"] += units

    def refund(self, units: int, expires_at: int) -> None:
        """Give the price of an unanswered query back."""
        self._entry["refund"] += units
        self.row["day_work"] = max(0, self.row["day_work"] - units)
        self._give(units, expires_at)

    def release(self, units: int, expires_at: int) -> None:
        """Return part of the deposit."""
        units = min(units, self.row["deposited"] - self.row["released"])
        self.row["released"] += units
        self._entry["released"] += units
        self._give(units, expires_at)

    def reserve(self, units: int, items: int) -> None:
        """Hold units for a query that is about to run."""
        self.row["reserved"] += units
        self.row["day_work"] += units
        self.row["day_items"] += items
        self.row["admitted_at"] = self.now

    def unreserve(self, units: int, admitted_at: int, *, items: int = 0) -> None:
        """Let a reservation go; ``items`` of them were never answered."""
        self.row["reserved"] -= units
        if admitted_at // _DAY == self.row["day"]:
            self.row["day_work"] = max(0, self.row["day_work"] - units)
            self.row["day_items"] = max(0, self.row["day_items"] - items)

    def learn(self, state: AccountState) -> None:
        """Take over what a pricing rule remembers; not the books."""
        self.row["queries"] = state.queries
        self.row["cusum"] = state.cusum
        self.row["epsilon"] = state.epsilon
        self.row["rdp"] = np.asarray(state.rdp, dtype="<f8").tobytes()

    def post(
        self,
        kind: str,
        *,
        jti: str = "",
        detail: Mapping[str, Any] | None = None,
        opened: Mapping[str, Any] | None = None,
        closed: Mapping[str, Any] | None = None,
        save: bool = True,
    ) -> None:
        """Write the row, the credit lots, one journal entry, and a query that begins or ends.

        Without ``save`` the row is not written yet; the transaction must not end before `save`.
        """
        row = self.row
        row["updated_at"] = self.now
        self._save_lots()
        moved = {name: row[name] - self._before[name] for name in _FIELDS}
        query = opened or closed
        entry = self._head(kind, "" if query is None else query["id"], jti, detail) | self._entry | moved
        write_down(self._connection, row if save else None, entry, opened=opened, closed=closed)
        self._before = {name: row[name] for name in _FIELDS}
        self._entry = dict.fromkeys(self._entry, 0)
        self._unsaved = not save

    def save(self) -> None:
        """Write the row, if `post` left that to be done."""
        if self._unsaved:
            write_account(self._connection, self.row)
            self._unsaved = False

    def note(self, kind: str, *, detail: Mapping[str, Any] | None = None) -> None:
        """Write a journal entry that moves nothing."""
        entry = self._head(kind, "", "", detail) | dict.fromkeys(MOVES, 0)
        self._connection.execute(insert(journal).inline(), entry)

    # --- below: parts of the verbs --------------------------------------------------------
    def _head(self, kind: str, query_id: str, jti: str, detail: Mapping[str, Any] | None) -> dict[str, Any]:
        text = json.dumps(detail, sort_keys=True, default=str) if detail else "{}"
        return {
            "at": self.now,
            "kind": kind,
            "account": self.row["id"],
            "query_id": query_id,
            "jti": jti,
            "detail": text,
        }

    def _give(self, units: int, expires_at: int) -> None:
        """Pay debt, then grant the rest as one lot of credit."""
        part = min(units, self.row["debt"])
        self.row["debt"] -= part
        if units > part:
            self.row["credit"] += units - part
            lots = self._open_lots()
            lots.append(_Lot(None, units - part, expires_at, changed=True))
            lots.sort(key=lambda lot: lot.expires_at)

    def _roll_day(self) -> None:
        if self.now // _DAY != self.row["day"]:
            self.row.update(day=self.now // _DAY, day_items=0, day_work=0)

    def _open_lots(self) -> list[_Lot]:
        """Return the lots with something left; asks the database only when there is credit."""
        if self._lots is None:
            self._lots = []
            if self.row["credit"] > 0:
                found = _LOTS.rows(self._connection, {"account": self.row["id"]})
                self._lots = [_Lot(*lot) for lot in found]
        return self._lots

    def _expire(self) -> None:
        """Write off credit whose time is over, before anything is decided on it."""
        for lot in self._open_lots():
            if lot.expires_at <= self.now:
                self.row["credit"] -= lot.remaining
                self._entry["expired"] += lot.remaining
                lot.remaining, lot.changed = 0, True

    def _save_lots(self) -> None:
        changed = [lot for lot in self._open_lots() if lot.changed]
        spent = [
            {"lot": lot.id, "left": lot.remaining, "at": None if lot.remaining else self.now}
            for lot in changed
            if lot.id is not None
        ]
        granted = [
            {
                "account": self.row["id"],
                "units": lot.remaining,
                "remaining": lot.remaining,
                "expires_at": lot.expires_at,
                "spent_at": None,
            }
            for lot in changed
            if lot.id is None and lot.remaining
        ]
        if spent:
            self._connection.execute(_SPEND, spent)
        if granted:
            self._connection.execute(insert(credits_).inline(), granted)
        self._lots = None
