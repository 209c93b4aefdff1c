"""Rounded answers: each score is an interval, and the weights lie where all intervals agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from assay.extraction.exact.gauss_newton import Link, log_scores

__all__ = ["Centre", "cross_entropy", "interval_centre"]

_RIDGE = 1e-10
_MOST_STEPS = 100
_DONE = 1e-9  # change of a weight, or gain, that counts as none
_SLACK = 1.02
_INSIDE = (0.98, 0.9, 0.7)  # walls a little narrower than the true ones end inside them
_SOFT = 1e-3

# From probabilities p [n, c]: the cost, its slope and its curvature by each p.
Objective = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Centre:
    """Weights in the middle of what the intervals allow.

    Parameters
    ----------
    weights
        float64 ``[c, d + 1]``, the bias last; class 0 of a softmax has zeros.
    half
        Half width of the narrowest intervals, all of one width, that were satisfied.
    feasible
        Whether every answer lies in its interval of the stated width.
    steps
        Newton steps.
    """

    weights: np.ndarray
    half: float
    feasible: bool
    steps: int


def cross_entropy(x: np.ndarray, scores: np.ndarray, link: Link = "softmax") -> np.ndarray:
    """Return the weights of largest likelihood for soft labels, float64 ``[c, d + 1]``.

    Parameters
    ----------
    x, scores
        Inputs float64 ``[n, d]`` and answers ``[n, c]``, rounded or not.
    link
        How decision values become scores.

    References
    ----------
    Tramèr et al. 2016, section 4.1: the loss of the published solver, here minimised by
    Fisher scoring to its very bottom.
    """
    total = scores.sum(axis=1, keepdims=True)

    def objective(p: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        safe = np.maximum(p, np.finfo(float).tiny)
        # With log p as coordinate the expected curvature is total * p; by p it is total / p.
        return -float((scores * np.log(safe)).sum()), -scores / safe, total / safe

    start = np.zeros((scores.shape[1], x.shape[1] + 1))
    return _descend(x, start, link, objective, ridge=_RIDGE * len(x))[0]


def interval_centre(
    x: np.ndarray, scores: np.ndarray, half: float, link: Link = "softmax", start: np.ndarray | None = None
) -> Centre:
    """Return the analytic centre of all weights whose answers round to the given ones.

    The set is bounded by two walls for each score. A squared hinge brings the weights
    inside, Newton steps on the logarithmic barrier to the centre.

    Parameters
    ----------
    x, scores
        Inputs float64 ``[n, d]`` and rounded answers ``[n, c]``.
    half
        Largest rounding error, half a unit of the last decimal.
    link
        How decision values become scores.
    start
        First weights ``[c, d + 1]``; those of largest likelihood unless given.

    References
    ----------
    Boyd and Vandenberghe, "Convex Optimization", 2004, section 8.5.3 (analytic centre).

    Examples
    --------
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> p = 1 / (1 + np.exp(-2 * x - 0.3))
    >>> found = interval_centre(x, np.round(np.hstack([1 - p, p]), 2), 0.005)
    >>> found.feasible, np.abs(found.weights[1] - [2, 0.3]).max() < 0.02
    (True, np.True_)
    """
    weights = cross_entropy(x, scores, link) if start is None else start
    steps = 0
    for inside in _INSIDE:
        weights, more = _descend(
            x, weights, link, _hinge(scores, inside * half), until=lambda p: _widest(p, scores) < half
        )
        steps += more
        gap = _widest(_scores(x, weights, link), scores)
        if gap < half:
            break
    # Where no weights fit, the walls stand as near as they can.
    wall = half if gap < half else _SLACK * gap
    weights, more = _descend(x, weights, link, _walls(scores, wall))
    return Centre(weights, wall, gap < half, steps + more)


def _hinge(scores: np.ndarray, half: float) -> Objective:
    def objective(p: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        gap = (p - scores) / half
        over = np.maximum(np.abs(gap) - 1, 0.0)
        # A little curvature everywhere keeps steps finite along what no violated wall sees.
        curve = np.where(over > 0, 1.0, _SOFT)
        return 0.5 * float((over**2).sum()), np.sign(gap) * over / half, curve / half**2

    return objective


def _walls(scores: np.ndarray, half: float) -> Objective:
    def objective(p: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        above, below = half - (p - scores), half + (p - scores)
        if above.min() <= 0 or below.min() <= 0:
            return np.inf, p, p
        cost = -float(np.log(above).sum() + np.log(below).sum())
        return cost, 1 / above - 1 / below, above**-2 + below**-2

    return objective


def _widest(p: np.ndarray, scores: np.ndarray) -> float:
    return float(np.abs(p - scores).max())


def _scores(x: np.ndarray, weights: np.ndarray, link: Link) -> np.ndarray:
    return np.asarray(np.exp(log_scores(x @ weights[:, :-1].T + weights[:, -1], link)))


def _descend(
    x: np.ndarray,
    weights: np.ndarray,
    link: Link,
    objective: Objective,
    *,
    ridge: float = 0.0,
    most: int = _MOST_STEPS,
    until: Callable[[np.ndarray], bool] | None = None,
) -> tuple[np.ndarray, int]:
    """Minimise an objective of the scores by Gauss-Newton steps with backtracking, or until it is enough."""
    design = np.column_stack([x, np.ones(len(x))])
    classes, width = weights.shape
    free = np.arange(1 if link == "softmax" else 0, classes)
    cost = _cost(design, weights, link, objective, ridge)
    for step in range(most):
        z = design @ weights.T
        p = np.exp(log_scores(z, link))
        if until is not None and until(p):
            return weights, step
        # The slope of log expit is expit(-z); exp(z) of a softmax has slope 1.
        slope = np.ones_like(z) if link == "softmax" else 1 / (1 + np.exp(z))
        _, by_p, curve = objective(p)
        change = p[:, :, None] * (np.eye(classes) - p[:, None, :]) * slope[:, None, :]  # dp_i / dz_k
        gradient = ((by_p[:, None] @ change)[:, 0].T @ design)[free] + ridge * weights[free]
        middle = (change * curve[:, :, None]).transpose(0, 2, 1) @ change
        H = np.empty((len(free), width, len(free), width))
        for a, i in enumerate(free):
            for b, k in enumerate(free[: a + 1]):
                H[a, :, b] = (design * middle[:, i, k, None]).T @ design
                H[b, :, a] = H[a, :, b].T
        flat = H.reshape(len(free) * width, -1)
        flat[np.diag_indices(len(flat))] += ridge + 1e-13 * np.trace(flat) / len(flat)
        move = _solved(flat, gradient.ravel()).reshape(-1, width)
        for halving in range(40):
            new = weights.copy()
            new[free] -= move * 0.5**halving
            reached = _cost(design, new, link, objective, ridge)
            if reached < cost:
                break
        else:
            return weights, step
        gain, weights, cost = cost - reached, new, reached
        if gain < _DONE * max(1.0, abs(cost)) or np.abs(move).max() * 0.5**halving < _DONE:
            return weights, step + 1
    return weights, most


def _solved(H: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the step; with fewer answers than unknowns, one that leaves open directions alone."""
    ridge = 0.0
    for _ in range(4):
        try:
            factor = linalg.cho_factor(H + ridge * np.eye(len(H)), check_finite=False)
        except linalg.LinAlgError:
            ridge = max(1e2 * ridge, 1e-11 * float(np.trace(H)) / len(H))
            continue
        return np.asarray(linalg.cho_solve(factor, gradient, check_finite=False))
    return gradient / np.maximum(np.diag(H), np.finfo(float).tiny)


def _cost(design: np.ndarray, weights: np.ndarray, link: Link, objective: Objective, ridge: float) -> float:
    p = np.exp(log_scores(design @ weights.T, link))
    return objective(p)[0] + 0.5 * ridge * float((weights**2).sum())
