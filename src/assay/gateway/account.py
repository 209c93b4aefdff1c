"""What the gateway remembers of one account, and the only ways in which it changes.

All of it is a frozen value; the store writes the new one in the transaction that claimed
the proof or settled the query, so every rule here is a pure function of the old one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from assay.errors import InvalidInput

__all__ = ["AccountState"]


_AMOUNTS = (
    "work_paid",
    "debt",
    "credit",
    "reserved",
    "pending",
    "cusum",
    "epsilon",
    "deposited",
    "released",
)


def _amount(units: float, what: str) -> float:
    """Refuse negative and non-finite amounts: both would let a bug mint work."""
    if not math.isfinite(units) or units < 0.0:
        msg = f"{what} must be a finite number of units that is not negative, got {units}"
        raise InvalidInput(msg)
    return float(units)


@dataclass(frozen=True, slots=True)
class AccountState:
    """The ledger row of one account; all amounts are units of work.

    Parameters
    ----------
    id
        Account identifier.
    tier
        Name of one of the policy's tiers.
    queries
        Items settled so far.
    work_paid
        Units of work delivered so far, deposit included.
    debt
        Settled prices not paid yet. Debt and credit are never both positive.
    credit
        Work paid ahead.
    reserved
        Units held for items admitted but not settled yet.
    pending
        Settled prices that are not billed yet; never shown, see `Pricing.billing_items`.
    pending_items
        Items of those prices that are still held at their reservation: all but repeats.
    cusum
        Value of the one-sided cumulative sum, at least 0.
    rdp
        Composed Renyi divergence at the policy's ``orders``; empty before the first settlement.
    epsilon
        Privacy loss spent: converted from ``rdp`` in additive mode, the running sum of the
        single-query epsilons in paper mode.
    deposited
        Units paid as the deposit of a new identity, ever.
    released
        Part of the deposit that came back as credit.
    volume
        Items that the price by volume counts, of the account and all others of its group, old
        ones in part; None where the store keeps no groups: then ``queries`` stands for it.
    updated_at
        Seconds since the epoch of the last change.

    Raises
    ------
    InvalidInput
        On negative or non-finite amounts.

    Examples
    --------
    >>> state = AccountState("a").charge(3.0).pay(5.0)
    >>> state.debt, state.credit, state.work_paid
    (0.0, 2.0, 5.0)
    """

    id: str
    tier: str = "standard"
    queries: int = 0
    work_paid: float = 0.0
    debt: float = 0.0
    credit: float = 0.0
    reserved: float = 0.0
    pending: float = 0.0
    pending_items: int = 0
    cusum: float = 0.0
    rdp: tuple[float, ...] = ()
    epsilon: float = 0.0
    deposited: float = 0.0
    released: float = 0.0
    updated_at: float = 0.0
    volume: float | None = None

    def __post_init__(self) -> None:
        if self.queries < 0 or self.pending_items < 0:
            msg = (
                f"counts must not be negative, got {self.queries} queries, {self.pending_items} pending items"
            )
            raise InvalidInput(msg)
        if self.volume is not None:
            _amount(self.volume, "volume")
        amounts = (
            self.work_paid,
            self.debt,
            self.credit,
            self.reserved,
            self.pending,
            self.cusum,
            self.epsilon,
            self.deposited,
            self.released,
        )
        # All at once, several times for every request; which one it was is found out afterwards.
        if not (min(amounts) >= 0.0 and math.isfinite(sum(amounts))):
            for amount, name in zip(amounts, _AMOUNTS, strict=True):
                _amount(amount, name)

    @property
    def counted(self) -> float:
        """Items that the price by volume counts so far."""
        return float(self.queries) if self.volume is None else self.volume

    @property
    def balance(self) -> float:
        """Units in hand: positive is credit, negative is debt. What may be shown to the account."""
        return self.credit - self.debt

    @property
    def collateral(self) -> float:
        """Part of the deposit that is still held."""
        return max(0.0, self.deposited - self.released)

    def _balanced(self, balance: float, **changes: object) -> Self:
        """Net debt against credit, so that one of them is zero."""
        return replace(self, debt=max(0.0, -balance), credit=max(0.0, balance), **changes)  # type: ignore[arg-type]  # fields by name

    def charge(self, units: float) -> Self:
        """Owe ``units`` more; credit is used first."""
        return self._balanced(self.balance - _amount(units, "a charge"))

    def accrue(self, units: float, items: int) -> Self:
        """Add settled prices, and the items that are held for them, to the next bill."""
        pending = self.pending + _amount(units, "a price")
        return replace(self, pending=pending, pending_items=self.pending_items + items)

    def bill(self) -> Self:
        """Charge everything that is pending."""
        return replace(self.charge(self.pending), pending=0.0, pending_items=0)

    def pay(self, units: float) -> Self:
        """Count delivered work against the debt; the rest becomes credit."""
        paid = _amount(units, "a payment")
        return self._balanced(self.balance + paid, work_paid=self.work_paid + paid)

    def refund(self, units: float) -> Self:
        """Give units back (an inference that failed after its proof was claimed)."""
        return self._balanced(self.balance + _amount(units, "a refund"))

    def deposit(self, units: float) -> Self:
        """Count delivered work as the deposit of a new identity: no credit, no debt paid."""
        paid = _amount(units, "a deposit")
        return replace(self, deposited=self.deposited + paid, work_paid=self.work_paid + paid)

    def release(self, units: float) -> Self:
        """Return part of the deposit as credit, never more than is still held."""
        back = min(_amount(units, "a released deposit"), self.collateral)
        return self._balanced(self.balance + back, released=self.released + back)

    def reserve(self, units: float) -> Self:
        """Hold units for admitted items."""
        return replace(self, reserved=self.reserved + _amount(units, "a reservation"))

    def unreserve(self, units: float) -> Self:
        """Let go of a reservation; rounding never leaves a negative rest."""
        return replace(self, reserved=max(0.0, self.reserved - _amount(units, "a reservation")))
