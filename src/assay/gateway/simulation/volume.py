"""What thefts pay that no price of queries can see: by volume alone, and by splitting it over customers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.errors import InvalidInput
from assay.gateway.policy import Policy
from assay.gateway.pricing.volume import mean_factor

__all__ = ["VolumeCost", "volume_costs"]


@dataclass(frozen=True, slots=True)
class VolumeCost:
    """The price of one way of stealing with inputs of the task.

    Parameters
    ----------
    queries
        Answers needed in all.
    groups
        Customers that the thief is taken for, each of whom asks an equal part.
    ratio
        Work for one answer over that of an average honest query, deposits included.
    """

    queries: int
    groups: int
    ratio: float


def volume_costs(
    policy: Policy,
    queries: int,
    groups: Iterable[int] = (1,),
    *,
    days: float = 0.0,
    contrast: float = 1.0,
) -> list[VolumeCost]:
    """Return what a theft of ``queries`` answers costs for each number of customers to pass for.

    Parameters
    ----------
    policy
        With additive pricing.
    queries
        Answers needed in all.
    groups
        Numbers of customers; each needs an account at least, and so pays a deposit, none of
        which is counted as coming back.
    days
        Over which the queries are spread.
    contrast
        Additive price of the thief's queries over the average honest one: 1 for inputs of
        the task.

    Raises
    ------
    InvalidInput
        For fewer than one query or customer.

    Examples
    --------
    >>> from assay.gateway.policy import Pricing, VolumePricing
    >>> policy = Policy(pricing=Pricing(volume=VolumePricing(free_items=1000.0)))
    >>> [(row.groups, round(row.ratio, 2)) for row in volume_costs(policy, 10_000, (1, 10))]
    [(1, 5.06), (10, 1.13)]
    """
    pricing = policy.pricing
    found = []
    for number in groups:
        if number < 1 or queries < number:
            msg = f"{queries} queries cannot be split over {number} customers"
            raise InvalidInput(msg)
        each = queries / number
        entry = pricing.deposit_units / pricing.typical_units / each
        found.append(
            VolumeCost(queries, number, contrast * mean_factor(pricing.volume, each, days=days) + entry)
        )
    return found
