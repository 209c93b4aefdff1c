"""Linear classifiers from points on their boundaries: one homogeneous system, one SVD.

On the boundary between classes i and j a linear classifier satisfies
``(theta_i - theta_j) . phi(x) = 0``. Stacked over all boundary points this determines all
classes at once, up to a positive factor and a vector added to every class, without
solving for facets one by one. Two classes are the smallest case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from assay.extraction.exact.bisection import Brackets

__all__ = ["Hyperplanes", "fit_hyperplanes"]

_REWEIGHTINGS = 2
_EXPLAINED = 2.0  # a residual so many times what the search leaves is no noise
_ROUNDING = 1e-14
_NOISE, _CLEAR = 5.0, 50.0
_MOST_POINTS = 4000
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Hyperplanes:
    """A linear classifier in features ``phi``, as far as boundary points tell.

    Parameters
    ----------
    theta
        Coefficients of each class, float64 ``[classes, features]``; class 0 is 0, the
        whole has norm 1.
    deviation
        Standard deviation of each coefficient that the width of the brackets leaves.
    nullity
        Dimension of what satisfies the equations; 1 is identified.
    misfit
        Root mean square residual over what bracket widths explain; about 1 for a
        classifier of this class, far above for any other.
    """

    theta: np.ndarray
    deviation: np.ndarray
    nullity: int
    misfit: float

    def labels(self, features: np.ndarray) -> np.ndarray:
        """Return the class of each row of features."""
        found: np.ndarray = (features @ self.theta.T).argmax(axis=1)
        return found


def fit_hyperplanes(
    brackets: Brackets,
    classes: int,
    phi: Callable[[np.ndarray], np.ndarray],
    seen: np.ndarray,
    seen_labels: np.ndarray,
) -> Hyperplanes:
    """Solve for the classifier whose boundaries pass through the brackets.

    Parameters
    ----------
    brackets
        Found by `assay.extraction.exact.bisection.bisect`; classes below ``classes``.
    classes
        Number of classes.
    phi
        Rows ``[n, d]`` to features ``[n, D]``, a constant among them.
    seen, seen_labels
        Labelled points, which settle the sign, and the position within what the
        equations leave open.

    Examples
    --------
    >>> from assay.extraction.exact.bisection import bisect
    >>> truth = lambda x: (x @ [2.0, -1.0] > 0.5).astype(int)
    >>> x = np.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    >>> ends = Brackets(x[::2], x[1::2], truth(x[::2]), truth(x[1::2]))
    >>> plane = lambda x: np.c_[x, np.ones(len(x))]
    >>> found = fit_hyperplanes(bisect(truth, ends, 40), 2, plane, x, truth(x))
    >>> (found.theta[1] / found.theta[1, 0]).round(6).tolist(), found.nullity
    ([1.0, -0.5, -0.25], 1)
    """
    near, far = phi(brackets.near), phi(brackets.far)
    rows = _equations((near + far) / 2, brackets, classes)
    steps = _equations(far - near, brackets, classes)
    points, answers = phi(seen), seen_labels
    active = np.ones(rows.shape[1], dtype=bool)
    fit = _solve(rows, steps, points, answers, classes, active)
    # Coefficients that cannot be told from 0 while all others clearly can are 0.
    size, noise = np.abs(fit.theta[1:].ravel()), fit.deviation[1:].ravel()
    small, clear = size <= _NOISE * noise, size >= _CLEAR * noise
    if fit.nullity == 1 and small.any() and clear.any() and (small | clear).all():
        sparse = _solve(rows, steps, points, answers, classes, ~small)
        if sparse.nullity == 1 and sparse.misfit <= max(2 * fit.misfit, _EXPLAINED):
            return sparse
    return fit


def _equations(features: np.ndarray, brackets: Brackets, classes: int) -> np.ndarray:
    """Return rows of ``(theta_near - theta_far) . phi = 0`` with class 0 left out."""
    n = len(features)
    blocks = np.zeros((n, classes, features.shape[1]))
    blocks[np.arange(n), brackets.near_labels] = features
    blocks[np.arange(n), brackets.far_labels] = -features
    return blocks[:, 1:].reshape(n, -1)


def _solve(
    rows: np.ndarray,
    steps: np.ndarray,
    points: np.ndarray,
    answers: np.ndarray,
    classes: int,
    active: np.ndarray,
) -> Hyperplanes:
    rows, steps = rows[:, active], steps[:, active]
    weights = np.ones(len(rows))
    floor = _ROUNDING * np.linalg.norm(rows, axis=1)
    for _ in range(_REWEIGHTINGS + 1):
        _, values, right = np.linalg.svd(rows * weights[:, None], full_matrices=True)
        values = np.r_[values, np.zeros(len(right) - len(values))]
        # How far the centre of a bracket may be from the boundary, in standard deviations.
        noise = np.abs(steps @ right[-1]) / np.sqrt(12) + floor
        weights = 1 / np.maximum(noise, np.median(noise) / 10)
    _, values, right = np.linalg.svd(rows * weights[:, None], full_matrices=True)
    values = np.r_[values, np.zeros(len(right) - len(values))]
    # Each direction is judged by its own noise: in a direction of the null space the
    # residual is what the widths of the brackets explain, elsewhere it is much larger.
    spread = np.abs(steps @ right.T) / np.sqrt(12) + floor[:, None]
    allowed = np.linalg.norm(spread * weights[:, None], axis=0)
    kernel = np.flatnonzero(values <= _EXPLAINED * allowed)
    nullity = int(len(right) - kernel[0]) if len(kernel) else 1
    basis = right[-nullity:]
    whole = np.zeros((nullity, len(active)))
    whole[:, active] = basis
    stacked = np.concatenate([np.zeros((nullity, points.shape[1])), whole], axis=1) if classes else whole
    theta = _oriented(stacked.reshape(nullity, classes, -1), points, answers)
    inverse = right[:-nullity].T / np.maximum(values[:-nullity], np.finfo(float).tiny)
    spare = np.zeros(len(active))
    spare[active] = np.linalg.norm(inverse, axis=1)
    deviation = np.r_[np.zeros(points.shape[1]), spare].reshape(classes, -1)
    final = theta.reshape(-1)[points.shape[1] :][active]
    left = len(rows) - (len(right) - 1)
    residual = rows @ final / np.maximum(np.abs(steps @ final) / np.sqrt(12) + floor, 1 / weights)
    misfit = float(np.sqrt(np.sum(residual**2) / max(left, 1))) if left > 0 else 0.0
    return Hyperplanes(theta, deviation, nullity, misfit)


def _oriented(basis: np.ndarray, points: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return the combination of solutions that agrees best with labelled points."""
    rng = np.random.default_rng(0)
    if len(basis) == 1:
        guess = (points @ basis[0].T).argmax(axis=1) == answers
        other = (-points @ basis[0].T).argmax(axis=1) == answers
        theta: np.ndarray = basis[0] if guess.sum() >= other.sum() else -basis[0]
        return theta
    # A wide margin over the labelled points, soft: coarse brackets can contradict a few of them.
    chosen = np.arange(len(points))
    if len(points) > _MOST_POINTS:
        chosen = rng.choice(len(points), _MOST_POINTS, replace=False)
    own = np.einsum("nf,knf->nk", points[chosen], basis[:, answers[chosen]])
    all_classes = np.einsum("nf,kcf->nck", points[chosen], basis)
    margins = own[:, None] - all_classes
    rival = np.arange(basis.shape[1])[None] != answers[chosen][:, None]
    table = margins[rival]
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), np.finfo(float).tiny)

    def loss(combination: np.ndarray) -> tuple[float, np.ndarray]:
        z = table @ combination
        slope = -table.T @ expit(-z) / len(z) + _RIDGE * combination
        return float(np.logaddexp(0, -z).mean() + _RIDGE / 2 * combination @ combination), slope

    combination = minimize(loss, table.mean(axis=0), jac=True, method="BFGS").x
    theta = np.tensordot(combination, basis, axes=1)
    return theta / max(float(np.linalg.norm(theta)), np.finfo(float).tiny)
