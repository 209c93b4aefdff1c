"""The one-sided cumulative sum of an account, and the multiplier it puts on prices.

``S <- max(0, S + clip(LLR, -down, up))``, ``M = min(M_max, exp(eta * max(0, S - h)))``
(Page 1954). The floor at 0 keeps a long honest past from being saved up for an attack,
and keeps the small lasting bias of an honest account from ever adding up, which is what
the exponential of a cumulative deviation does in the published rule.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
from numpy.typing import ArrayLike

from assay.gateway.policy import Pricing
from assay.gateway.pricing.rule import FloatArray

__all__ = ["increment", "increments", "multiplier", "walk"]


def increments(pricing: Pricing, log_q: ArrayLike) -> FloatArray:
    """Return the step of the sum for each log q: its bin's log likelihood ratio, clipped.

    Items without a score (NaN) and policies without fitted bins give 0.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-50.0, -2.0), llr_values=(-3.0, -0.5, 1.5), up=4.0, down=2.0)
    >>> increments(pricing, [-90.0, -10.0, -0.7, float("nan")])
    array([-2. , -0.5,  1.5,  0. ])
    """
    values = np.asarray(log_q, dtype=np.float64)
    if not pricing.llr_values:
        return np.zeros(values.shape)
    bins = np.searchsorted(np.asarray(pricing.llr_edges), values, side="right")
    steps = np.clip(np.asarray(pricing.llr_values), -pricing.down, pricing.up)[bins]
    return np.where(np.isnan(values), 0.0, steps)


def increment(pricing: Pricing, log_q: float) -> float:
    """Return the step of the sum for one log q, see `increments`.

    Examples
    --------
    >>> pricing = Pricing(llr_edges=(-50.0, -2.0), llr_values=(-3.0, -0.5, 1.5), up=4.0, down=2.0)
    >>> [increment(pricing, log_q) for log_q in (-90.0, -10.0, -0.7, float("nan"))]
    [-2.0, -0.5, 1.5, 0.0]
    """
    if not pricing.llr_values or math.isnan(log_q):
        return 0.0
    return min(max(pricing.llr_values[bisect_right(pricing.llr_edges, log_q)], -pricing.down), pricing.up)


def walk(pricing: Pricing, steps: ArrayLike, start: float = 0.0) -> FloatArray:
    """Return the sum after each step, between 0 and the policy's ceiling.

    Examples
    --------
    >>> walk(Pricing(threshold=9.0), [1.0, -2.0, 1.5, 1.5], start=0.5)
    array([1.5, 0. , 1.5, 3. ])
    """
    ceiling = pricing.cusum_ceiling
    path, current = np.empty(np.size(steps)), float(start)
    for place, step in enumerate(np.asarray(steps, dtype=np.float64).tolist()):
        current = min(max(0.0, current + step), ceiling)
        path[place] = current
    return path


def multiplier(pricing: Pricing, sums: ArrayLike) -> FloatArray:
    """Return the multiplier of prices for values of the sum, in ``[1, max_multiplier]``.

    Examples
    --------
    >>> multiplier(Pricing(threshold=9.0, eta=1.0), [0.0, 9.0, 10.0, 40.0]).round(3)
    array([ 1.   ,  1.   ,  2.718, 50.   ])
    """
    above = np.maximum(0.0, np.asarray(sums, dtype=np.float64) - pricing.threshold)
    # Clipped before the exponential, which would overflow on an uncapped sum.
    limit = np.log(pricing.max_multiplier)
    risen = np.exp(np.minimum(pricing.eta * above, limit))
    return np.where(pricing.eta * above >= limit, pricing.max_multiplier, risen)
