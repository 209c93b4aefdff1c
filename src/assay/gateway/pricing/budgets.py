"""The decision about a request: serve it, ask a price, slow it down, or deny it.

Prices make extraction dear; only totals bound it. An attacker whose queries look like
everybody's pays like everybody, so the volume of one account (or of a group that an
operator treats as one) is the last line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.policy import Policy
from assay.gateway.pricing.rule import Rule
from assay.gateway.pricing.volume import seconds_until

__all__ = ["Decision", "Usage", "decide"]

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account did today, from the store.

    Parameters
    ----------
    queries
        Items admitted since midnight (UTC).
    work
        Units charged since midnight.
    seconds_left
        Seconds until the next midnight.
    idle_seconds
        Seconds since the account's last admitted request.
    """

    queries: int = 0
    work: float = 0.0
    seconds_left: float = _DAY
    idle_seconds: float = _DAY


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a request.

    Parameters
    ----------
    action
        ``serve``; ``price`` (ask for ``units``, 428); ``throttle`` or ``deny`` (429).
    units
        Work to ask for, 0 unless ``action == "price"``.
    deposit
        Whether the work is the deposit of a new identity (and what its first request needs).
    retry_after
        Seconds after which it makes sense to come back; ``None`` if never.
    reason
        One sentence for the client and the audit log.
    spent
        Where a budget is the reason: the share of it that is used, above 0.
    """

    action: Literal["serve", "price", "throttle", "deny"]
    units: float = 0.0
    deposit: bool = False
    retry_after: float | None = None
    reason: str = ""
    spent: float = 0.0


def decide(
    rule: Rule,
    policy: Policy,
    state: AccountState,
    n_items: int,
    *,
    usage: Usage | None = None,
    quoted: float | None = None,
) -> Decision:
    """Decide about ``n_items`` from this account, before any model runs.

    Parameters
    ----------
    rule, policy
        In force.
    state
        The account, with any proof that came with the request already booked.
    n_items
        Items of the request, at least 1.
    usage
        Today's totals; needed for daily budgets.
    quoted
        Price of the request in exact timing.

    Raises
    ------
    InvalidInput
        If the request has no items.

    Examples
    --------
    >>> from assay.gateway.pricing import open_rule
    >>> policy = Policy()
    >>> decision = decide(open_rule(policy), policy, AccountState("new"), 1)
    >>> decision.action, decision.units, decision.reason
    ('price', 128.0, 'a new account pays a deposit first')
    >>> decide(open_rule(policy), policy, AccountState("a", deposited=128.0), 8).action
    'serve'
    """
    if n_items < 1:
        msg = f"a request needs at least one item, got {n_items}"
        raise InvalidInput(msg)
    refusal = _over_budget(policy, state, n_items, usage or Usage())
    if refusal is not None:
        return refusal
    if not rule.fits(state, n_items):
        reason = "too many items of this account are still being answered"
        return Decision("throttle", retry_after=1.0, reason=reason)
    deposit = rule.deposit_due(state)
    owed = rule.due(state, n_items, quoted)
    if deposit > 0.0:
        return Decision("price", deposit + owed, deposit=True, reason="a new account pays a deposit first")
    if owed > 0.0:
        return Decision("price", owed, reason="work is due before the next answer")
    return Decision("serve")


def _over_budget(policy: Policy, state: AccountState, n_items: int, usage: Usage) -> Decision | None:
    """Return the refusal of the tightest budget, if any."""
    budgets, factor = policy.budgets, policy.tier(state.tier).budget_factor
    spent: list[tuple[str, float, float | None]] = []
    if budgets.epsilon is not None:
        limit = budgets.epsilon * factor
        if state.epsilon >= limit:
            reason = f"the account has spent its privacy budget of {limit:g}"
            return Decision("deny", reason=reason, spent=state.epsilon / limit)
        spent.append(("privacy budget", state.epsilon / limit, None))
    if budgets.work_per_day is not None:
        limit = budgets.work_per_day * factor
        if usage.work >= limit:
            reason = f"the account has used its {limit:g} units of today"
            return Decision("deny", retry_after=usage.seconds_left, reason=reason, spent=usage.work / limit)
        spent.append(("units of today", usage.work / limit, usage.seconds_left))
    if budgets.queries_per_day is not None:
        limit = budgets.queries_per_day * factor
        if usage.queries + n_items > limit:
            reason = f"the account has at most {limit:g} queries a day"
            share = (usage.queries + n_items) / limit
            return Decision("deny", retry_after=usage.seconds_left, reason=reason, spent=share)
        spent.append(("queries of today", (usage.queries + n_items) / limit, usage.seconds_left))
    most = policy.pricing.volume.limit_items
    if most is not None:
        limit, asked = most * factor, state.counted + n_items
        if asked > limit:
            reason = f"the customer has had the {limit:g} items that it may have for now"
            # A count that the store does not keep by groups is never forgotten.
            room = limit - n_items  # what is asked for now does not fade while it waits
            grouped = state.volume is not None
            wait = seconds_until(policy.pricing.volume, state.counted, room) if grouped else None
            return Decision("deny", retry_after=wait, reason=reason, spent=asked / limit)
        spent.append(("volume", asked / limit, None))
    near = [name for name, share, _ in spent if share >= budgets.throttle_at]
    # The last request of n items at this rate ends n / rate seconds after it began.
    wait = n_items / budgets.throttle_hz - usage.idle_seconds
    if near and wait > 0.0:
        reason, share = f"close to the limit: {', '.join(near)}", max(share for _, share, _ in spent)
        return Decision("throttle", retry_after=wait, reason=reason, spent=share)
    return None
