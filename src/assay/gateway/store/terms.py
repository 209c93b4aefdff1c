"""What a request has to fulfil, as plain numbers; `assay.gateway.admission` has the policy's own rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assay.gateway.pricing.budgets import Decision, Usage

if TYPE_CHECKING:
    from assay.gateway.account import AccountState

__all__ = ["BARRED", "THROTTLED", "Budgets", "Terms", "by_tier"]

BARRED = "barred"
"""The tier of an account that gets nothing."""

THROTTLED = "throttled"
"""The tier of an account that a detector has slowed down."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Hard totals of one account; None means no limit.

    Parameters
    ----------
    epsilon
        Composed privacy loss, at the policy's delta. Reached: deny.
    work_per_day
        Units billed per UTC day, open reservations included. Reached: deny until midnight.
    queries_per_day
        Items admitted per UTC day. Reached: deny until midnight.
    throttle_at
        Share of any total from which the account is slowed down.
    throttle_hz
        Items per second of a slowed account.
    """

    epsilon: float | None = None
    work_per_day: float | None = None
    queries_per_day: int | None = None
    throttle_at: float = 1.0
    throttle_hz: float = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Flat terms of a request.

    Parameters
    ----------
    reserve_units
        Units reserved *per item* until the price is known.
    cap_units
        Debt, plus open reservations, minus credit, may not pass this.
    free_units
        Debt up to which no puzzle is asked.
    deposit_units
        Entry deposit of a new account; 0 for none.
    credit_seconds
        How long work paid ahead lasts.
    max_credit_units
        Most credit one account may bank.
    budgets
        Hard totals.
    due
        ``due(state, n_items) -> units`` that must be paid before the request; None means the
        whole debt when it is more than ``free_units``.

    Examples
    --------
    >>> from assay.gateway.account import AccountState
    >>> terms = Terms(reserve_units=2.0, cap_units=100.0, free_units=5.0)
    >>> terms.decide(AccountState("a", debt=6.0), Usage(), 1).units
    6.0
    """

    reserve_units: float
    cap_units: float
    free_units: float = 0.0
    deposit_units: float = 0.0
    credit_seconds: float = 7 * 86_400.0
    max_credit_units: float = float("inf")
    budgets: Budgets = field(default_factory=Budgets)
    due: Callable[[AccountState, int], float] | None = None

    def reserve(self, state: AccountState, n_items: int) -> float:  # noqa: ARG002 - flat for every account
        """Units to hold for the request until its price is known."""
        return self.reserve_units * n_items

    def deposit_part(self, state: AccountState, units: float) -> float:
        """How much of work that was done as a deposit is one; the rest is payment."""
        return min(units, max(0.0, self.deposit_units - state.deposited))

    def decide(self, state: AccountState, usage: Usage, n_items: int) -> Decision:
        """Serve, ask for work, throttle or deny; payments that came along are already booked.

        Open reservations count like debt against the cap, so that concurrent requests
        cannot outrun their prices.
        """
        refusal = by_tier(state, usage, n_items, self.budgets.throttle_hz) or self._over(
            state, usage, n_items
        )
        if refusal is not None:
            return refusal
        if self.due is not None:
            owed = self.due(state, n_items)
        else:
            owed = state.debt if state.debt > self.free_units else 0.0
        exposed = state.reserved + self.reserve(state, n_items) - state.balance
        owed = max(0.0, owed, exposed - self.cap_units)
        missing = self.deposit_units - state.deposited
        if missing > 0.0:
            return Decision(
                "price", missing + owed, deposit=True, reason="a new account pays a deposit first"
            )
        if owed > 0.0:
            return Decision("price", owed, reason="work is due before the next answer")
        return Decision("serve")

    def _over(self, state: AccountState, usage: Usage, n_items: int) -> Decision | None:
        budgets = self.budgets
        totals = (
            ("privacy budget", state.epsilon, 0.0, budgets.epsilon, None),
            ("queries of today", usage.queries, n_items, budgets.queries_per_day, usage.seconds_left),
            (
                "units of today",
                usage.work,
                self.reserve(state, n_items),
                budgets.work_per_day,
                usage.seconds_left,
            ),
        )
        slow = ""
        for name, used, more, limit, wait in totals:
            if limit is None:
                continue
            if used >= limit or used + more > limit:
                return Decision("deny", retry_after=wait, reason=f"the account has used its {name}")
            if used >= budgets.throttle_at * limit:
                slow = name
        left = n_items / budgets.throttle_hz - usage.idle_seconds
        if slow and left > 0.0:
            return Decision("throttle", retry_after=left, reason=f"close to the limit: {slow}")
        return None


def by_tier(state: AccountState, usage: Usage, n_items: int, throttle_hz: float) -> Decision | None:
    """Return the refusal of an account that was barred or slowed down, or None.

    Examples
    --------
    >>> from assay.gateway.account import AccountState
    >>> by_tier(AccountState("a", tier="barred"), Usage(), 1, 1.0).action
    'deny'
    """
    if state.tier == BARRED:
        return Decision("deny", reason="the account is barred")
    if state.tier == THROTTLED:
        wait = n_items / throttle_hz - usage.idle_seconds
        if wait > 0.0:
            return Decision("throttle", retry_after=wait, reason="the account is slowed down")
    return None
