"""Which points a kernel machine knows least about: close to its boundary and far from what was asked."""

from __future__ import annotations

import numpy as np
from scipy import linalg

__all__ = ["most_doubtful"]

_MOST_KNOWN = 2000
_JITTER = 1e-6  # of the kernel's diagonal: points asked twice, or nearly, stay solvable


def most_doubtful(
    pool: np.ndarray,
    decision: np.ndarray,
    known: np.ndarray,
    known_decision: np.ndarray,
    gamma: float,
    count: int,
) -> np.ndarray:
    """Return the points of a pool whose label is least certain, chosen one after the other.

    Seen as a Gaussian process, a kernel machine leaves its decision value a standard
    deviation that depends on where was asked alone. The point whose value is fewest
    deviations from 0 comes first; it counts as asked when the next one is chosen, so
    that a batch does not crowd one place.

    Parameters
    ----------
    pool, decision
        Candidates, float64 ``[n, d]``, and their decision values ``[n]``.
    known, known_decision
        Points that were asked, float64 ``[m, d]``, and their decision values ``[m]``; of
        many, only the 2,000 nearest to the boundary are used.
    gamma
        Width of the Gaussian kernel.
    count
        Points to choose, at most ``n``.

    Returns
    -------
    numpy.ndarray
        Positions in the pool, int64 ``[count]``.

    References
    ----------
    Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 2.2;
    Bryan et al., "Active learning for identifying function threshold boundaries",
    NeurIPS 2005.

    Examples
    --------
    >>> pool, known = np.array([[0.0], [0.02], [0.5], [1.0]]), np.array([[0.0], [1.0]])
    >>> most_doubtful(pool, np.array([-1.0, -0.96, 0.1, 1.0]), known, np.array([-1.0, 1.0]), 1.0, 1)
    array([2])
    """
    if len(known) > _MOST_KNOWN:
        nearest = np.argpartition(np.abs(known_decision), _MOST_KNOWN)[:_MOST_KNOWN]
        known = known[nearest]
    gram = _kernel(known, known, gamma)
    gram[np.diag_indices(len(gram))] += _JITTER
    factor = linalg.cholesky(gram, lower=True, check_finite=False)
    seen = linalg.solve_triangular(factor, _kernel(known, pool, gamma), lower=True, check_finite=False)
    variance = np.maximum(1 - (seen**2).sum(axis=0), _JITTER)
    distance = np.abs(decision)
    fresh = np.empty((count, len(pool)))
    chosen = np.empty(count, dtype=np.int64)
    for k in range(count):
        ratio = distance / np.sqrt(variance)
        ratio[chosen[:k]] = np.inf
        i = int(np.argmin(ratio))
        chosen[k] = i
        shared = _kernel(pool[i : i + 1], pool, gamma)[0] - seen[:, i] @ seen - fresh[:k, i] @ fresh[:k]
        fresh[k] = shared / np.sqrt(variance[i])
        variance = np.maximum(variance - fresh[k] ** 2, _JITTER)
    return chosen


def _kernel(a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    values: np.ndarray = np.exp(-gamma * np.maximum(square, 0.0))
    return values
