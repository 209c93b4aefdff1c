"""Whether a boundary between answers runs across the features, which no tree's does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from assay.extraction.exact.domain import Domain
from assay.extraction.exact.paths.grid import Floats, Integers

__all__ = ["is_slanted"]

_ROWS, _MANY_ROWS, _PLACES = 40, 500, 8
_BITS = 22
_FEW = 4  # a victim with some slanted boundaries is no tree; one pair of eight may be chance
_SHIFT = 1e-4  # of each feature's span: far more than the bisection leaves, far less than leaves


def is_slanted(identities: Callable[[Floats], Integers], domain: Domain, rng: np.random.Generator) -> bool:
    """Return whether boundaries depend on more than one feature each.

    A split of a tree is a threshold of one feature. A pair of inputs close to it on both
    sides ends on one side when this feature changes a little, and stays apart when all others
    do. So of two halves of the features exactly one moves the pair to one side, and of the halves
    of that one exactly one again, down to a single feature. Across a slanted boundary there
    comes a level where both halves do, also if only two of many features matter. A fifth of the
    pairs decides, because a shift may by chance lead into another leaf. About 400 questions
    for 20 features, in some 30 rounds; 1,000 more where other answers are rare.

    Parameters
    ----------
    identities
        From inputs ``[n, d]`` to identities ``[n]``.
    domain
        Where inputs lie; categories are left as they are.
    rng
        Of the places.

    Returns
    -------
    bool
        False also where fewer than two pairs of different identities are found, or there is
        one number among the features.

    Examples
    --------
    >>> rng, domain = np.random.default_rng(0), Domain.box(9)
    >>> is_slanted(lambda x: (x[:, 2] + x[:, 7] > 0.3).astype(np.int64), domain, rng)
    True
    >>> is_slanted(lambda x: (x[:, 2] > 0.3).astype(np.int64), domain, rng)
    False
    """
    numbers = np.flatnonzero(domain.continuous)
    if len(numbers) < 2:  # noqa: PLR2004 - nothing to be slanted between
        return False
    low, high = _pairs(identities, domain, rng)
    if len(low) < 2:  # noqa: PLR2004 - one may be a corner of two leaves
        return False
    step = np.zeros_like(low)
    step[:, numbers] = _SHIFT * domain.span[numbers] * rng.choice([-1.0, 1.0], (len(low), len(numbers)))

    def joined(moved: NDArray[np.bool_]) -> NDArray[np.bool_]:
        ends = domain.clip(np.vstack([low + step * moved, high + step * moved]))
        left, right = np.split(identities(ends), 2)
        same: NDArray[np.bool_] = left == right
        return same

    order = rng.permuted(np.tile(numbers, (len(low), 1)), axis=1)
    rank = np.argsort(_completed(order, domain.size), axis=1)
    # Of every pair: the places in its order among which the split must be.
    first, last = np.zeros(len(low), np.int64), np.full(len(low), len(numbers))
    open_, several = np.ones(len(low), bool), np.zeros(len(low), bool)
    while (open_ & (last - first > 1)).any():
        middle = (first + last) // 2
        front = joined((rank >= first[:, None]) & (rank < middle[:, None]))
        back = joined((rank >= middle[:, None]) & (rank < last[:, None]))
        wide = open_ & (last - first > 1)
        several |= wide & front & back
        open_ &= ~wide | (front ^ back)
        first, last = np.where(wide & back, middle, first), np.where(wide & front, middle, last)
    return bool(_FEW * several.sum() > open_.sum())


def _pairs(
    identities: Callable[[Floats], Integers], domain: Domain, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return inputs just on both sides of boundaries, ``[n, d]`` each."""
    # Where one answer covers nearly everything, a few points see no other.
    for rows in (_ROWS, _MANY_ROWS):
        low = domain.uniform(rows, rng)
        high = np.where(domain.continuous, low[::-1], low)
        below, above = np.split(identities(np.vstack([low, high])), 2)
        pairs = np.flatnonzero(below != above)[:_PLACES]
        if len(pairs) > 1:
            break
    low, high, start = low[pairs], high[pairs], below[pairs]
    for _ in range(_BITS if len(pairs) else 0):
        middle = 0.5 * (low + high)
        same = (identities(middle) == start)[:, None]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return low, high


def _completed(order: Integers, size: int) -> Integers:
    """Return each row with the features that it lacks at its end."""
    rows = [np.r_[row, np.setdiff1d(np.arange(size), row)] for row in order]
    return np.array(rows)
