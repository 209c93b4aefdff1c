"""Whether a boundary between answers runs across the features, which no tree's does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from assay.extraction.exact.domain import Domain
from assay.extraction.exact.paths.grid import Floats, Integers

__all__ = ["is_slanted"]

_ROWS, _PLACES, _TRIALS = 40, 6, 8
_BITS = 22
_SHIFT = 1e-3  # of each feature's span: far more than the bisection leaves, less than most leaves


def is_slanted(identities: Callable[[Floats], Integers], domain: Domain, rng: np.random.Generator) -> bool:
    """Return whether boundaries move when some features are shifted a little, whichever they are.

    A split of a tree is a threshold of one feature. A pair of inputs close to it on both
    sides stays on both sides when other features change a little, and a random half of all
    features leaves out the one of the split every second time. Across a slanted boundary
    both inputs of the pair end on one side. About 270 questions in some 25 rounds.

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
        one feature.

    Examples
    --------
    >>> rng, domain = np.random.default_rng(0), Domain.box(2)
    >>> is_slanted(lambda x: (x.sum(axis=1) > 0.3).astype(np.int64), domain, rng)
    True
    >>> is_slanted(lambda x: (x[:, 1] > 0.3).astype(np.int64), domain, rng)
    False
    """
    numbers = domain.continuous
    if domain.size == 1:
        return False
    low = domain.uniform(_ROWS, rng)
    high = np.where(numbers, low[::-1], low)
    high[:, ~numbers] = low[:, ~numbers]
    below, above = np.split(identities(np.vstack([low, high])), 2)
    pairs = np.flatnonzero(below != above)[:_PLACES]
    if len(pairs) < 2:  # noqa: PLR2004 - one may be a corner of two leaves
        return False
    low, high, start = low[pairs], high[pairs], below[pairs]
    for _ in range(_BITS):
        middle = 0.5 * (low + high)
        same = (identities(middle) == start)[:, None]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    order = rng.permuted(np.tile(np.arange(domain.size), (_TRIALS, 1, 1)), axis=2)
    moved = order < (domain.size + 1) // 2
    step = np.where(moved & numbers, _SHIFT * domain.span, 0.0) * rng.choice([-1.0, 1.0], moved.shape)
    ends = np.stack([low + step, high + step]).reshape(-1, domain.size)
    left, right = np.split(identities(domain.clip(ends)), 2)
    # One pair that stays apart is enough for a tree: across a slant hardly one in a thousand does.
    return not bool((left != right).any())
