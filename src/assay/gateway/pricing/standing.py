"""What a customer's volume means for the next item, for whoever is shown it."""

from __future__ import annotations

from dataclasses import dataclass

from assay.gateway.account import AccountState
from assay.gateway.policy import Policy
from assay.gateway.pricing.volume import volume_factor

__all__ = ["Standing", "standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a customer stands.

    Attributes
    ----------
    items
        Answered items that count now, over all accounts of the customer.
    factor
        What the next item's price is multiplied by, at least 1.
    free_items
        Count up to which that is 1; None if it always is.
    limit_items
        Count above which nothing is answered, for this tier; None without one.
    half_life_days
        Time after which past items count half.
    """

    items: float
    factor: float
    free_items: float | None
    limit_items: float | None
    half_life_days: float

    @property
    def full(self) -> bool:
        """Whether not even one more item is answered."""
        return self.limit_items is not None and self.items + 1.0 > self.limit_items


def standing(policy: Policy, state: AccountState) -> Standing | None:
    """Return where the customer behind an account stands; None where nothing depends on the volume.

    Examples
    --------
    >>> from assay.gateway.policy import Pricing, VolumePricing
    >>> policy = Policy(pricing=Pricing(volume=VolumePricing(free_items=100.0, limit_items=1000.0)))
    >>> found = standing(policy, AccountState("a", volume=299.0))
    >>> found.items, found.factor, found.limit_items, found.full
    (299.0, 3.0, 1000.0, False)
    >>> standing(Policy(), AccountState("a", volume=299.0)) is None
    True
    """
    volume = policy.pricing.volume
    if not volume.active or state.volume is None:
        return None
    # The published rule knows no price by volume; the limit holds for both.
    priced = volume.free_items > 0.0 and policy.pricing.mode == "additive"
    factor = float(volume_factor(volume, state.volume + 1.0)) if priced else 1.0
    limit = volume.limit_items
    return Standing(
        state.volume,
        round(factor, 6),
        volume.free_items if priced else None,
        None if limit is None else limit * policy.tier(state.tier).budget_factor,
        volume.half_life_days,
    )
