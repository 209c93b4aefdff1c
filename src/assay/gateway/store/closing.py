"""How queries end: their reservations go, their prices are booked, alone or many in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from assay.gateway.store.base import Bill, Settled
from assay.gateway.store.books import Books, OpenQuery
from assay.gateway.store.schema import micro, unmicro
from assay.gateway.store.steps import Price, book_price, price_bill
from assay.gateway.store.volumes import add_volume, volume_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from assay.gateway.account import AccountState
    from assay.gateway.policy import VolumePricing
    from assay.gateway.store.base import SettleRule

__all__ = ["CREDIT_SECONDS", "close_query", "settle_bills"]

CREDIT_SECONDS = 7 * 86_400
"""How long credit that nobody paid for lasts: refunds, and deposits that come back."""


def settle_bills(
    c: Connection, bills: Sequence[Bill], rule: SettleRule, now: int, volume: VolumePricing | None
) -> list[Settled | None]:
    """Close the queries of all bills that are open, in the order of the bills; ``now`` in microseconds.

    Each account is locked, read and written once.
    """
    # Two replicas that lock the same accounts in the same order wait, but never for each other.
    turns = sorted(range(len(bills)), key=lambda index: bills[index].account_id)
    done: list[Settled | None] = [None] * len(bills)
    books: Books | None = None
    for index in turns:
        bill = bills[index]
        if books is not None and books["id"] != bill.account_id:
            books.save()
            books = None
        price = partial(price_bill, bill, rule)
        if books is None:
            books, query = Books.lock_query(c, bill.query_id, now) or (None, None)
        else:
            query = books.lock_another(bill.query_id)
        if books is not None and query is not None:
            done[index] = close_query(c, books, query, price, "settle", volume)
    if books is not None:
        books.save()
    return done


def close_query(
    c: Connection,
    books: Books,
    query: OpenQuery,
    price: Callable[[Connection, Books, OpenQuery, AccountState], Price],
    kind: str,
    volume: VolumePricing | None = None,
) -> Settled | None:
    """Let the reservation of an open query go and book its price; None when it is not open.

    The account's row is the caller's to save.
    """
    if query.status != "admitted":
        return None
    books.unreserve(query.reserved, query.at)
    books.volume = volume_of(c, books["id"], volume, books.now, lock=True)
    before = books.state
    priced = price(c, books, query, before)
    if books.volume is not None:
        counted = books.volume + priced.fresh if priced.after is None else priced.after.volume
        if counted is not None:
            books.volume = counted
            add_volume(c, books["id"], counted, books.now)
    book_price(books, priced)
    if priced.released:
        books.release(priced.released, books.now + micro(CREDIT_SECONDS))
    closed = {
        "id": query.id,
        "status": "settled",
        "settled_at": books.now,
        "price": priced.units,
        "multiplier": priced.multiplier,
        "flags": ",".join(priced.flags),
        "log_q": priced.log_q,
    }
    books.post(kind, closed=closed, save=False)
    return Settled(
        query.id,
        books["id"],
        before,
        books.state,
        unmicro(priced.units),
        priced.multiplier,
        priced.flags,
        priced.duplicates,
    )
