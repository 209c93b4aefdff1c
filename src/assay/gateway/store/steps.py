"""Single steps of the store's transactions: claim once, book a price, find repeated items."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from assay.errors import InvalidInput
from assay.gateway.store.base import Admission
from assay.gateway.store.books import Books
from assay.gateway.store.once import insert_claim
from assay.gateway.store.prepared import Prepared
from assay.gateway.store.schema import alarms, items, micro

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from assay.gateway.account import AccountState
    from assay.gateway.pricing.budgets import Decision
    from assay.gateway.store.base import Bill, Claim, Conditions, SettleRule
    from assay.gateway.store.books import OpenQuery

__all__ = [
    "MAX_NAME",
    "Price",
    "book_price",
    "check_name",
    "claim_once",
    "new_query_id",
    "price_bill",
    "refusal",
    "whole",
]

MAX_NAME = 256
_ROUNDING = 2
_REMEMBER = {
    "sqlite": Prepared(sqlite_insert(items).on_conflict_do_nothing()),
    "postgresql": Prepared(postgresql_insert(items).on_conflict_do_nothing()),
}
_SEEN = select(items.c.digest).where(
    items.c.account == bindparam("owner"), items.c.digest.in_(bindparam("digests", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Price:
    """What closes a query; ``fresh`` are items that count as volume where no rule counts them."""

    units: int
    after: AccountState | None = None
    fresh: int = 0
    released: int = 0
    multiplier: float = 1.0
    flags: tuple[str, ...] = ()
    log_q: bytes = b""
    duplicates: tuple[bool, ...] = ()


def claim_once(c: Connection, books: Books, claim: Claim, terms: Conditions) -> bool:
    """Claim the proof and book its work; False when it was claimed before (or expired long ago)."""
    if not claim.jti or not math.isfinite(claim.exp):
        msg = "a claim needs the token's identifier and its expiry"
        raise InvalidInput(msg)
    units = whole(claim.units)
    row = {
        "jti": claim.jti,
        "account": books["id"],
        "expires_at": micro(claim.exp),
        "claimed_at": books.now,
        "units": units,
        "deposit": int(claim.deposit),
    }
    if not insert_claim(c, row):
        return False
    deposit = min(units, whole(terms.deposit_part(books.state, claim.units))) if claim.deposit else 0
    books.work(units, books.now + micro(terms.credit_seconds), deposit=deposit)
    return True


def refusal(asked: Decision, state: AccountState | None, paid: float = 0.0) -> Admission:
    """Return a decision against serving as the store's answer."""
    return Admission(
        asked.action,
        state,
        reason=_word(asked),
        detail=asked.reason,
        due_units=asked.units,
        deposit=asked.deposit,
        paid_units=paid,
        retry_after=asked.retry_after,
        spent=asked.spent,
    )


def _word(asked: Decision) -> str:
    if asked.action == "price":
        return "deposit" if asked.deposit else "debt"
    return "throttled" if asked.action == "throttle" else "budget"


def book_price(books: Books, priced: Price) -> None:
    """Book a price as the rule did: on the next bill, or with all that is pending due now."""
    if priced.after is None:
        books.price(priced.units, pending=books["pending"], pending_items=books["pending_items"])
        return
    left = micro(priced.after.pending)
    most = books["pending"] + priced.units
    # Roundings of single prices must not show as bills of a millionth.
    left = most if abs(most - left) <= _ROUNDING else min(left, most)
    books.price(priced.units, pending=left, pending_items=priced.after.pending_items)


def price_bill(
    bill: Bill, rule: SettleRule, c: Connection, books: Books, query: OpenQuery, before: AccountState
) -> Price:
    """Ask the rule for the price of a query and take over what it remembers."""
    n_items, log_q = query.n_items, bill.log_q
    if len(log_q) != n_items or (bill.item_digests and len(bill.item_digests) != n_items):
        msg = f"query {bill.query_id} has {n_items} items, got {len(log_q)} values of log q"
        raise InvalidInput(msg)
    duplicates = find_duplicates(c, books["id"], bill.item_digests, books.now, n_items)
    after, settlement = rule(before, log_q, duplicates)
    books.learn(after)
    if "alarm" in settlement.flags:
        raise_alarm(c, books, after, bill.query_id)
    return Price(
        units=whole(float(np.sum(settlement.units))),
        after=after,
        released=micro(max(0.0, after.released - before.released)),
        multiplier=float(np.max(settlement.multiplier, initial=1.0)),
        flags=tuple(settlement.flags),
        log_q=log_q.astype("<f4").tobytes(),
        duplicates=tuple(duplicates.tolist()),
    )


def raise_alarm(c: Connection, books: Books, after: AccountState, query_id: str) -> None:
    """Record that an account's cumulative sum crossed its threshold."""
    detail = json.dumps({"query": query_id})
    row = {"at": books.now, "account": books["id"], "kind": "cusum", "value": after.cusum, "detail": detail}
    c.execute(insert(alarms).inline(), row)


def find_duplicates(
    c: Connection, account: str, digests: Sequence[bytes], now: int, n_items: int
) -> NDArray[np.bool_]:
    """Mark what the account sent before, and remember the rest."""
    marks = np.zeros(n_items, dtype=np.bool_)
    if not digests:
        return marks
    short = [bytes(digest[:16]) for digest in digests]
    if n_items == 1:  # most queries: one statement that looks and remembers
        row = {"account": account, "digest": short[0], "at": now}
        marks[0] = _REMEMBER[c.dialect.name].run(c, row) == 0
        return marks
    seen = {bytes(d) for d in c.execute(_SEEN, {"owner": account, "digests": sorted(set(short))}).scalars()}
    fresh: list[dict[str, object]] = []
    for i, digest in enumerate(short):
        marks[i] = digest in seen
        if not marks[i]:
            seen.add(digest)
            fresh.append({"account": account, "digest": digest, "at": now})
    if fresh:
        # The account is locked: nobody else can have inserted these in the meantime.
        c.execute(insert(items).inline(), fresh)
    return marks


def whole(units: float) -> int:
    """Check an amount of work and return it in whole millionths."""
    if not math.isfinite(units) or units < 0.0:
        msg = f"an amount of work is a finite number that is not negative, got {units}"
        raise InvalidInput(msg)
    return micro(units)


def new_query_id(now: int) -> str:
    """Return a random identifier that sorts by time, so that indices grow at one end."""
    return f"{now // 1000:012x}{secrets.token_hex(10)}"


def check_name(name: str, what: str) -> None:
    """Refuse an empty or an endless identifier."""
    if not 1 <= len(name) <= MAX_NAME:
        msg = f"an {what} has a name of 1 to {MAX_NAME} characters, got {len(name)}"
        raise InvalidInput(msg)
