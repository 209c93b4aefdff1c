"""The price by volume: the more one customer has been answered, the dearer the next item.

Inputs of the task cannot be told from honest ones, so the only thing that sets their theft
apart is how many of them one customer needs. Every other price is additive and cannot see
that. Here item number ``v`` of a group of accounts costs ``V(v)`` times its price,

    V(v) = min(max_factor, max(1, v / free_items) ** power)

so that the bill grows with the power ``power + 1`` of the volume: a convex price, the same
for one account and for many of the same group. Items of the past count half after
``half_life_days``, or customers would pay for their age.

Convexity rewards splitting, so this holds as far as groups do: whoever is taken for ``g``
customers is as cheap as ``g`` customers. What each costs to become is the deposit, and
outside of the gateway a payment instrument or a contract.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.gateway.policy import VolumePricing
from assay.gateway.pricing.rule import FloatArray

__all__ = ["decayed", "free_items", "mean_factor", "seconds_until", "volume_factor"]

_DAY = 86_400.0
_STEPS = 4096


def volume_factor(volume: VolumePricing, counts: ArrayLike) -> FloatArray:
    """Return ``V`` for items by how many of the group count before and with them.

    Examples
    --------
    >>> volume_factor(VolumePricing(free_items=1000.0, power=1.0), [1, 1000, 3000, 1e9])
    array([  1.,   1.,   3., 100.])
    >>> volume_factor(VolumePricing(), [1e9])
    array([1.])
    """
    items = np.asarray(counts, dtype=np.float64)
    if volume.free_items <= 0.0:
        return np.ones(items.shape)
    # In logarithms, where no power overflows.
    risen = volume.power * (np.log(np.maximum(items, volume.free_items)) - math.log(volume.free_items))
    return np.asarray(np.exp(np.minimum(risen, math.log(volume.max_factor))))


def decayed(volume: VolumePricing, counted: float, seconds: float) -> float:
    """Return what is left of a count after so many seconds; a clock that went back leaves it.

    Examples
    --------
    >>> decayed(VolumePricing(half_life_days=1.0), 100.0, 2 * 86_400.0)
    25.0
    """
    return counted * math.exp2(-max(0.0, seconds) / (volume.half_life_days * _DAY))


def seconds_until(volume: VolumePricing, counted: float, limit: float) -> float | None:
    """Return the seconds after which a count has come down to ``limit``; None if it never does.

    Examples
    --------
    >>> seconds_until(VolumePricing(half_life_days=1.0), 400.0, 100.0)
    172800.0
    """
    if limit <= 0.0:
        return None
    return max(0.0, volume.half_life_days * _DAY * math.log2(max(counted, limit) / limit))


def free_items(volume: VolumePricing, items_a_day: float) -> float:
    """Return the count that somebody who asks steadily never exceeds: what to set ``free_items`` to.

    Raises
    ------
    InvalidInput
        Unless the rate is a positive number.

    Examples
    --------
    >>> round(free_items(VolumePricing(half_life_days=30.0), 1000.0))
    43281
    """
    if not 0.0 < items_a_day < math.inf:
        msg = f"items a day must be a positive number, got {items_a_day}"
        raise InvalidInput(msg)
    return items_a_day * volume.half_life_days / math.log(2.0)


def mean_factor(volume: VolumePricing, items: float, *, days: float = 0.0) -> float:
    """Return the mean of ``V`` over the first ``items`` of a group that asks them within ``days``.

    Parameters
    ----------
    volume
        The price by volume.
    items
        Asked in all, above 0.
    days
        Over which they are spread evenly; within them early ones begin to be forgotten.

    Raises
    ------
    InvalidInput
        If there are no items, or negative days.

    Examples
    --------
    >>> volume = VolumePricing(free_items=1000.0, power=1.0)
    >>> [round(mean_factor(volume, n), 2) for n in (1000, 10_000)]
    [1.0, 5.05]
    >>> round(mean_factor(volume, 10_000, days=365.0), 2)
    1.12
    """
    if not 0.0 < items < math.inf or not 0.0 <= days < math.inf:
        msg = f"a positive number of items and days that are not negative are needed, got {items}, {days}"
        raise InvalidInput(msg)
    share = (np.arange(_STEPS) + 0.5) / _STEPS
    counts = items * share
    if days > 0.0:
        rate = math.log(2.0) * days / volume.half_life_days
        counts = items * -np.expm1(-rate * share) / rate
    return float(volume_factor(volume, counts).mean())
