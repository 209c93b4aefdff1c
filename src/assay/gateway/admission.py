"""The decision about one request: the policy's rule and budgets, as the store asks for them.

The store calls these functions between a locked read of the account and the write, so
what they say is true for exactly as long as it matters. They are pure: no clock, no
input-output, and in lagged timing nothing of the request but its number of items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.gateway.account import AccountState
from assay.gateway.pricing import Decision, Usage, decide, open_rule

if TYPE_CHECKING:
    from assay.gateway.policy import Policy, VolumePricing
    from assay.gateway.pricing import Rule

__all__ = ["BARRED", "THROTTLED", "RuleTerms", "by_tier", "request_terms"]

BARRED = "barred"
"""The tier of an account that gets nothing."""

THROTTLED = "throttled"
"""The tier of an account that a detector has slowed down."""

_WEEK = 7 * 86_400.0
_BANKED_DEPOSITS = 4.0


@dataclass(frozen=True, slots=True)
class RuleTerms:
    """What a policy asks of a request, whatever the tier of its account.

    Parameters
    ----------
    policy
        In force.
    rule
        Its pricing rule.
    quote
        In exact timing: price of the items at hand for an account in this state. Left out in
        lagged timing, where the request is held against a reservation.
    credit_seconds
        How long work paid ahead lasts.
    max_credit_units
        Most credit one account may bank; by default what the debt may reach, four times over.

    Examples
    --------
    >>> from assay.gateway.policy import Policy
    >>> terms = request_terms(Policy())
    >>> terms.decide(AccountState("new"), Usage(), 1).units
    128.0
    """

    policy: Policy
    rule: Rule
    quote: Callable[[AccountState], float] | None = None
    credit_seconds: float = _WEEK
    max_credit_units: float = float("inf")

    @property
    def volume(self) -> VolumePricing:
        """How prices depend on what a customer was answered before."""
        return self.policy.pricing.volume

    @property
    def deposit_units(self) -> float:
        """Deposit of a new account in the standard tier."""
        return self.rule.deposit_due(AccountState("new"))

    def decide(self, state: AccountState, usage: Usage, n_items: int) -> Decision:
        """Serve, ask for work, throttle or deny; payments that came along are already booked."""
        refusal = by_tier(state, usage, n_items, self.policy.budgets.throttle_hz)
        if refusal is not None:
            return refusal
        quoted = None if self.quote is None else self.quote(state)
        return decide(self.rule, self.policy, state, n_items, usage=usage, quoted=quoted)

    def reserve(self, state: AccountState, n_items: int) -> float:
        """Units to hold for the request until its price is known."""
        return self.rule.reserve(state, n_items) if self.quote is None else self.quote(state)

    def deposit_part(self, state: AccountState, units: float) -> float:
        """How much of work that was done as a deposit is one; the rest is payment."""
        return self.rule.accept(state, units, deposit=True).deposited - state.deposited


def request_terms(
    policy: Policy, rule: Rule | None = None, *, quote: Callable[[AccountState], float] | None = None
) -> RuleTerms:
    """Return the terms of a policy.

    Parameters
    ----------
    policy
        In force.
    rule
        Its rule, if it is open already.
    quote
        Exact timing only: see `RuleTerms`.
    """
    pricing = policy.pricing
    most = _BANKED_DEPOSITS * max(pricing.debt_cap_units, pricing.deposit_units)
    return RuleTerms(
        policy,
        open_rule(policy) if rule is None else rule,
        quote,
        max_credit_units=most if most > 0.0 else float("inf"),
    )


def by_tier(state: AccountState, usage: Usage, n_items: int, throttle_hz: float) -> Decision | None:
    """Return the refusal of an account that was barred or slowed down, or None.

    Examples
    --------
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
