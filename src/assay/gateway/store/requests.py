"""The request path of the store: claim, pay, reserve, settle, refund, bank."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import bindparam, delete, select, update

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.pricing.budgets import Usage
from assay.gateway.store.base import Admission, Banked, Bill, Settled, StoreDown
from assay.gateway.store.books import Books, OpenQuery, state_of
from assay.gateway.store.closing import CREDIT_SECONDS, close_query, settle_bills
from assay.gateway.store.engine import Backed
from assay.gateway.store.once import insert_new
from assay.gateway.store.prepared import Prepared
from assay.gateway.store.schema import accounts, micro, states, unmicro
from assay.gateway.store.steps import (
    MAX_NAME,
    Price,
    check_name,
    claim_once,
    new_query_id,
    refusal,
    whole,
)
from assay.gateway.store.volumes import volume_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from assay.gateway.policy import VolumePricing
    from assay.gateway.store.base import Claim, Conditions, SettleRule

__all__ = ["Requests"]

T = TypeVar("T")

_ACCOUNT = Prepared(select(accounts).where(accounts.c.id == bindparam("id")))
_COLUMNS = tuple(accounts.columns.keys())
_USED = "the proof was redeemed before"
_AMENDS = 32


class _Unchanged(Exception):
    """Leave the transaction without a change."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


class Requests(Backed):
    """What happens to an account between a request and its price."""

    @property
    def at_once(self) -> bool:
        """Whether transactions may be short enough to be run by who must not be held up."""
        return self._database.at_once

    # --- the request path ---------------------------------------------------------------
    def account(
        self, account_id: str, *, volume: VolumePricing | None = None, now: float = 0.0
    ) -> AccountState | None:
        """Return the account's state, or None when nobody knows it; with a volume, its customer's count."""

        def work(c: Connection) -> AccountState | None:
            found = _ACCOUNT.rows(c, {"id": account_id})
            if not found:
                return None
            row = dict(zip(_COLUMNS, found[0], strict=True))
            return state_of(row, volume_of(c, account_id, volume, micro(now)))

        return self._database.read(work)

    def open_account(self, account_id: str, tier: str, now: float) -> AccountState:
        """Create the account unless it exists; return its state."""
        check_name(account_id, "account")
        return self._change(lambda c: Books.open(c, account_id, tier, micro(now)).state)

    def admit(
        self,
        account_id: str,
        *,
        n_items: int,
        terms: Conditions,
        now: float,
        claim: Claim | None = None,
        digest: str = "",
        model: str = "",
        policy_version: int = 0,
        tier: str = "standard",
        wait: bool = True,
    ) -> Admission:
        """Claim the proof, pay debt and reserve the request, or say what is missing.

        One transaction under the account's lock: either all of it happened or nothing. With
        ``wait=False`` it happens at once (SQLite, with nobody else writing) or raises `StoreBusy`.
        """
        check_name(account_id, "account")
        if n_items < 1:
            msg = f"a request has at least one item, got {n_items}"
            raise InvalidInput(msg)
        at = micro(now)

        def work(c: Connection) -> Admission:
            books = Books.lock(c, account_id, at)
            if books is None and claim is None:
                stranger = AccountState(account_id, tier)
                asked = terms.decide(stranger, Usage(), n_items)
                if asked.action != "serve":
                    # A stranger without a proof leaves no trace: asking is free of writes.
                    return refusal(asked, None)
            if books is None:
                books = Books.open(c, account_id, tier, at)
            books.volume = volume_of(c, account_id, terms.volume, books.now)
            state = books.state
            asked = terms.decide(state, books.usage, n_items)
            if asked.action in ("throttle", "deny"):
                # Decided before the claim: the client keeps its proof.
                raise _Unchanged(refusal(asked, state))
            jti, paid = "", 0.0
            if claim is not None:
                if not claim_once(c, books, claim, terms):
                    raise _Unchanged(Admission("replay", books.state, reason="replay", detail=_USED))
                jti, paid = claim.jti, claim.units
                state = books.state
                asked = terms.decide(state, books.usage, n_items)
            if asked.action != "serve":
                if books.touched:
                    books.post("pay" if claim else "expire", jti=jti)
                return refusal(asked, books.state, paid)
            reserve = whole(terms.reserve(state, n_items))
            books.reserve(reserve, n_items)
            query_id = new_query_id(books.now)
            opened = {
                "id": query_id,
                "at": books.now,
                "settled_at": None,
                "account": account_id,
                "model": model[:MAX_NAME],
                "digest": digest[:MAX_NAME],
                "n_items": n_items,
                "status": "admitted",
                "reserved": reserve,
                "price": 0,
                "multiplier": 1.0,
                "flags": "",
                "log_q": b"",
                "policy_version": policy_version,
            }
            books.post("admit", jti=jti, opened=opened)
            held = unmicro(reserve)
            return Admission("serve", books.state, query_id, paid_units=paid, reserved_units=held)

        return self._change(work, wait=wait)

    def settle(
        self,
        query_id: str,
        rule: SettleRule,
        *,
        log_q: NDArray[np.float64],
        now: float,
        item_digests: Sequence[bytes] = (),
        volume: VolumePricing | None = None,
    ) -> Settled | None:
        """Replace the reservation by the rule's price; None when the query is not open.

        Parameters
        ----------
        query_id, log_q, item_digests
            See `Bill`.
        rule
            Pure function of the state without this query's reservation.
        now
            Seconds.
        volume
            See `settle_all`.
        """
        return self.settle_all([Bill(query_id, log_q, item_digests)], rule, now=now, volume=volume)[0]

    def settle_all(
        self,
        bills: Sequence[Bill],
        rule: SettleRule,
        *,
        now: float,
        volume: VolumePricing | None = None,
        wait: bool = True,
    ) -> Sequence[Settled | None]:
        """Settle several queries in one transaction, which costs less than one for each; see `admit`.

        Parameters
        ----------
        bills
            What is known of the queries.
        rule
            Pure function of the state without a query's reservation.
        now
            Seconds.
        volume
            How the rule's prices depend on what a customer was answered before, if they do.
        wait
            See `admit`.

        Returns
        -------
        In the order of ``bills``; None for a query that is not open.

        Raises
        ------
        InvalidInput
            If one of the bills does not fit its query; then none is settled.
        """
        for bill in bills:
            if bill.log_q.ndim != 1 or bool((bill.log_q > 0.0).any()):
                msg = "log_q holds one log probability (at most 0, or NaN for none) per item"
                raise InvalidInput(msg)

        def work(c: Connection) -> list[Settled | None]:
            return settle_bills(c, bills, rule, micro(now), volume)

        return self._change(work, wait=wait)

    def charge(
        self, query_id: str, units: float, *, now: float, volume: VolumePricing | None = None
    ) -> Settled | None:
        """Settle at a flat price, when there is no estimate; None when it is not open.

        Parameters
        ----------
        query_id, units
            Which query, and what it costs.
        now
            Seconds.
        volume
            See `settle_all`; nobody looked for repeats, so every item counts.
        """
        flat = whole(units)

        def price(_c: Connection, _books: Books, query: OpenQuery, _before: AccountState) -> Price:
            return Price(flat, fresh=query.n_items)

        def work(c: Connection) -> Settled | None:
            books, query = Books.lock_query(c, query_id, micro(now)) or (None, None)
            if books is None or query is None:
                return None
            settled = close_query(c, books, query, price, "charge", volume)
            books.save()
            return settled

        return self._change(work)

    def refund(self, query_id: str, *, now: float, reason: str = "") -> bool:
        """Undo a query that got no answer: its reservation goes, its price becomes credit.

        The claim stays claimed, and what its proof paid stays with the account.
        """

        def work(c: Connection) -> bool:
            found = Books.lock_query(c, query_id, micro(now))
            if found is None or found[1].status not in ("admitted", "settled"):
                return False
            books, query = found
            if query.status == "admitted":
                books.unreserve(query.reserved, query.at, items=query.n_items)
            else:
                books.refund(query.price, books.now + micro(CREDIT_SECONDS))
            closed = {"id": query_id, "status": "refunded", "settled_at": books.now}
            books.post("refund", closed=closed, detail={"reason": reason} if reason else None)
            return True

        return self._change(work)

    def bank(
        self, account_id: str, claim: Claim, *, terms: Conditions, now: float, tier: str = "standard"
    ) -> Banked:
        """Claim work paid ahead: as the entry deposit, against debt, else as credit."""
        check_name(account_id, "account")
        at = micro(now)

        def work(c: Connection) -> Banked:
            books = Books.open(c, account_id, tier, at)
            before = books["credit"]
            if not claim_once(c, books, claim, terms):
                raise _Unchanged(Banked("replay", books.state))
            rest = books["credit"] - before
            if rest > 0 and unmicro(books["credit"]) > terms.max_credit_units:
                raise _Unchanged(Banked("full", books.state))  # the claim is rolled back as well
            books.post("bank", jti=claim.jti)
            expires = unmicro(books.now) + terms.credit_seconds if rest > 0 else None
            return Banked("ok", books.state, unmicro(rest), expires)

        return self._change(work)

    def amend(
        self, account_id: str, name: str, change: Callable[[bytes | None], bytes | None], *, now: float
    ) -> bytes | None:
        """Read, change and write a named piece of the account's state.

        ``change`` gets what is stored (None at first) and returns what to store; None deletes it.
        It runs outside of any transaction, and again when somebody else was faster.

        Raises
        ------
        StoreDown
            If others were faster too many times.
        """
        key = (states.c.account == account_id, states.c.name == name)
        for attempt in range(_AMENDS):
            row = self._database.read(
                lambda c: c.execute(select(states.c.data, states.c.version).where(*key)).first()
            )
            new = change(None if row is None else bytes(row.data))
            if self._replace(account_id, name, None if row is None else row.version, new, micro(now)):
                return new
            time.sleep(0.002 * attempt * secrets.SystemRandom().random())
        msg = f"the state {name!r} of an account is changed too often to be changed once more"
        raise StoreDown(msg)

    def _replace(self, account_id: str, name: str, version: int | None, new: bytes | None, at: int) -> bool:
        """Write a new state if the old one is still there; tell whether it was."""
        if version is None and new is None:
            return True
        row = {"account": account_id, "name": name, "data": new, "version": 0, "updated_at": at}
        if version is None:
            return self._database.write(lambda c: insert_new(c, states, row))
        old = (states.c.account == account_id, states.c.name == name, states.c.version == version)
        if new is None:
            return self._database.write(lambda c: c.execute(delete(states).where(*old)).rowcount == 1)
        values = {"data": new, "version": version + 1, "updated_at": at}
        return self._database.write(
            lambda c: c.execute(update(states).where(*old).values(**values)).rowcount == 1
        )

    # --- parts of the above ---------------------------------------------------------------
    def _change(self, work: Callable[[Connection], T], *, wait: bool = True) -> T:
        """Commit the work, or roll it back and return the answer that it left with."""
        try:
            return self._database.write(work) if wait else self._database.write_at_once(work)
        except _Unchanged as left:
            answer: T = left.answer
            return answer
