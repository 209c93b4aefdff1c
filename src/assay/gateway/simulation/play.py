"""Many accounts at once through the additive rule: the settlement, vectorised over accounts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from assay.gateway.policy import Policy
from assay.gateway.pricing.additive import item_units
from assay.gateway.pricing.cusum import increments, multiplier
from assay.gateway.pricing.rule import FloatArray

__all__ = ["Played", "play", "released"]


@dataclass(frozen=True)
class Played:
    """Prices of simulated accounts.

    Parameters
    ----------
    units
        Price of each query, ``[accounts, queries]``.
    sums
        Cumulative sum after each query, same shape.
    """

    units: FloatArray
    sums: FloatArray


def play(policy: Policy, log_q: ArrayLike) -> Played:
    """Price streams of distinct queries, one account per row, each starting fresh.

    Gives what `AdditiveRule.settle` gives row by row (without tiers and repeats), a
    thousand times faster.

    Parameters
    ----------
    policy
        With additive pricing.
    log_q
        ``[accounts, queries]``.

    Examples
    --------
    >>> play(Policy(), [[-157.8, -0.7]]).units.round(3)
    array([[0.5, 3. ]])
    """
    streams = np.asarray(log_q, dtype=np.float64)
    pricing = policy.pricing
    steps = np.ascontiguousarray(increments(pricing, streams).T)
    sums, current, ceiling = np.empty_like(steps), np.zeros(streams.shape[0]), pricing.cusum_ceiling
    for place, step in enumerate(steps):
        current = np.minimum(np.maximum(current + step, 0.0), ceiling)
        sums[place] = current
    paths = sums.T
    return Played(item_units(policy, streams) * multiplier(pricing, paths), paths)


def released(policy: Policy, sums: FloatArray) -> FloatArray:
    """Return how much of the deposit has come back after each query, ``[accounts, queries]``.

    Examples
    --------
    >>> released(Policy(), np.zeros((1, 3)))
    array([[0.064, 0.128, 0.192]])
    """
    pricing = policy.pricing
    if not pricing.deposit_release_queries:
        return np.zeros_like(sums)
    share = np.cumsum(sums <= pricing.threshold, axis=1) / pricing.deposit_release_queries
    return np.asarray(pricing.deposit_units * np.minimum(share, 1.0))
