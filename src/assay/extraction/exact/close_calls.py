"""Rows worth asking next of a half-known linear model: uncertain labels, and scores that mix classes."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from assay.extraction.exact.design import representable, uniform_points
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.gauss_newton import Link, log_scores

__all__ = ["close_calls"]

_CANDIDATES, _EACH = 1000, 10  # at least, and for each row that is asked
_PRIOR = 1e-2  # precision of a weight before anything is asked: weights of about 10
_FLOOR = 1e-12


def close_calls(
    domain: Domain,
    x: np.ndarray,
    weights: np.ndarray,
    half: float,
    rows: int,
    rng: np.random.Generator,
    link: Link = "softmax",
) -> np.ndarray:
    """Return rows that tell most about where labels change, float64 ``[rows, d]``.

    Half of them are those whose label the answers so far leave least certain. Rounding
    is taken for uniform noise, which gives the weights a covariance and the difference of
    the two largest decision values of a row a standard deviation. The row whose
    difference is fewest deviations from 0 comes first; it counts as asked when the next
    one is chosen, so that rows do not repeat each other. The other half are those with
    the most even scores: a rounded score near 0 or 1 says little about its logarithm, and
    one row with several classes in between gives several equations.

    Candidates are random points and corners, from hardly any to nearly all features at
    their upper end, as dummies of categories are.

    Parameters
    ----------
    domain
        Where inputs may lie.
    x
        Rows asked so far, float64 ``[n, d]``.
    weights
        The model found so far, float64 ``[c, d + 1]``.
    half
        Largest rounding error.
    rows
        Rows to choose.
    rng
        Of the candidates.
    link
        How decision values become scores.

    Examples
    --------
    >>> rng, domain = np.random.default_rng(0), Domain.box(1)
    >>> found = close_calls(domain, rng.uniform(-1, 1, (9, 1)), np.array([[0, 0], [8, 2.0]]), 0.005, 1, rng)
    >>> bool(abs(found[0, 0] + 0.25) < 0.1)
    True
    """
    pool = _candidates(domain, x, rows, rng)
    own, rival, gap = _margins(pool, weights, link)
    size = weights.shape[1]
    factor = linalg.cholesky(_precision(x, weights, half, link), lower=True, check_finite=False)
    # Differences of two decision values, as directions in the space of all weights.
    design = np.column_stack([pool, np.ones(len(pool))])
    directions = np.zeros((len(pool), len(weights), size))
    at = np.arange(len(pool))
    directions[at, own] = design
    directions[at, rival] -= design
    flat = directions.reshape(len(pool), -1).T
    known = linalg.solve_triangular(factor, flat, lower=True, check_finite=False)
    variance = (known**2).sum(axis=0)
    p = np.exp(log_scores(pool @ weights[:, :-1].T + weights[:, -1], link))
    slope = p[at, own] * p[at, rival] / np.maximum(p[at, own] + p[at, rival], _FLOOR)
    noise = half**2 / 3 / np.maximum(slope, _FLOOR) ** 2
    doubtful = rows - rows // 2
    fresh, chosen = np.empty((doubtful, len(pool))), np.empty(doubtful, dtype=np.int64)
    for k in range(doubtful):
        ratio = gap / np.sqrt(np.maximum(variance, _FLOOR))
        ratio[chosen[:k]] = np.inf
        i = int(np.argmin(ratio))
        chosen[k] = i
        shared = known[:, i] @ known - fresh[:k, i] @ fresh[:k]
        fresh[k] = shared / np.sqrt(variance[i] + noise[i])
        variance = np.maximum(variance - fresh[k] ** 2, 0.0)
    mixed = (p * (1 - p)).sum(axis=1)
    mixed[chosen] = -1.0
    found: np.ndarray = pool[np.concatenate([chosen, np.argsort(-mixed, kind="stable")[: rows // 2]])]
    return found


def _candidates(domain: Domain, x: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    half = max(_CANDIDATES, rows * _EACH) // 2
    up = rng.random((half, domain.size)) < rng.random((half, 1))
    corners = representable(np.where(up, domain.high, domain.low))
    pool = np.vstack([corners, uniform_points(domain, half, rng)])
    # An answer that was rounded is rounded the same way again: no row is asked twice.
    known = {row.tobytes() for row in np.ascontiguousarray(x)}
    fresh = {row.tobytes(): i for i, row in enumerate(pool) if row.tobytes() not in known}
    return pool[list(fresh.values())]


def _margins(x: np.ndarray, weights: np.ndarray, link: Link) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two largest classes of each row and the difference of their decision values."""
    z = log_scores(x @ weights[:, :-1].T + weights[:, -1], link)
    order = np.argsort(z, axis=1)
    at = np.arange(len(x))
    return order[:, -1], order[:, -2], z[at, order[:, -1]] - z[at, order[:, -2]]


def _precision(x: np.ndarray, weights: np.ndarray, half: float, link: Link) -> np.ndarray:
    """Return the precision of all weights that rounded answers at ``x`` leave, ``[c (d + 1)] * 2``."""
    classes, size = weights.shape
    z = x @ weights[:, :-1].T + weights[:, -1]
    p = np.exp(log_scores(z, link))
    slope = np.ones_like(z) if link == "softmax" else 1 / (1 + np.exp(z))
    change = p[:, :, None] * (np.eye(classes) - p[:, None, :]) * slope[:, None, :]
    middle = change.transpose(0, 2, 1) @ change / (half**2 / 3)
    design = np.column_stack([x, np.ones(len(x))])
    H = np.empty((classes, size, classes, size))
    for i in range(classes):
        for k in range(i + 1):
            H[i, :, k] = (design * middle[:, i, k, None]).T @ design
            H[k, :, i] = H[i, :, k].T
    flat = H.reshape(classes * size, -1)
    flat[np.diag_indices(len(flat))] += _PRIOR + 1e-12 * np.trace(flat) / len(flat)
    return flat
