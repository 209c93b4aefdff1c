"""Points at which a rounded score changes a digit: there it is known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.extraction.exact.gauss_newton import Link, log_scores
from assay.extraction.exact.levenberg import levenberg_marquardt
from assay.extraction.exact.oracle import Oracle

__all__ = ["Flips", "find_flips", "fit_flips"]

_BISECTIONS = 48
_PAIRS = 40  # drawn for each flip that is wanted


@dataclass(frozen=True, eq=False)
class Flips:
    """Exact equations.

    Parameters
    ----------
    x
        Points, float64 ``[m, d]``.
    label
        The class whose score is known there, int64 ``[m]``.
    value
        Its score, halfway between two rounded values, float64 ``[m]``.
    """

    x: np.ndarray
    label: np.ndarray
    value: np.ndarray


def find_flips(
    oracle: Oracle,
    x: np.ndarray,
    scores: np.ndarray,
    digits: int,
    rng: np.random.Generator,
    *,
    surplus: float = 1.1,
    link: Link = "softmax",
) -> Flips:
    """Bisect between rows with different answers until the place of a change is known to float64.

    All segments are halved together: one round trip for each bit, about 48 in all.

    Parameters
    ----------
    oracle
        The victim.
    x, scores
        Rows with their rounded answers.
    digits
        Decimals of the answers.
    rng
        Of the choice of segments.
    surplus
        Equations for each unknown.
    link
        The model class, which says how many unknowns there are.

    Raises
    ------
    BudgetExceeded
        If the budget ends before the search does.
    """
    classes = oracle.num_classes - (1 if link == "softmax" else 0)
    wanted = int(np.ceil(surplus * classes * (oracle.size + 1)))
    unit = 10.0**-digits
    first, second = rng.integers(len(x), size=(2, _PAIRS * wanted))
    label = rng.integers(oracle.num_classes, size=len(first))
    low, high = scores[first, label], scores[second, label]
    # The level halfway: far from both ends, where the score is steepest.
    level = (np.floor((low + high) / (2 * unit)) + 0.5) * unit
    usable = np.flatnonzero(np.abs(high - low) > 1.5 * unit)
    # Of equal steepness, a score near one half tells more about its logit than one near 0 or 1.
    order = usable[np.argsort(-(level * (1 - level))[usable], kind="stable")]
    order = _spread(order, label, wanted, oracle.num_classes)
    a, b, label, level = x[first[order]], x[second[order]], label[order], level[order]
    rising = low[order] < high[order]
    t0, t1 = np.zeros(len(order)), np.ones(len(order))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (t0 + t1)
        above = _asked(oracle, a, b, middle)[np.arange(len(order)), label] > level
        ahead = above == rising
        t1, t0 = np.where(ahead, middle, t1), np.where(ahead, t0, middle)
    t = 0.5 * (t0 + t1)
    return Flips(a + t[:, None] * (b - a), label, level)


def fit_flips(flips: Flips, weights: np.ndarray, link: Link) -> np.ndarray:
    """Return the weights ``[c, d + 1]`` that meet all flips, from weights that are near.

    Parameters
    ----------
    flips
        The equations, more than there are unknowns.
    weights
        Start; class 0 of a softmax keeps its zeros.
    link
        The model class.
    """
    design = np.column_stack([flips.x, np.ones(len(flips.x))])
    fixed = 1 if link == "softmax" else 0
    rows = np.arange(len(design))
    target = np.log(flips.value) - np.log1p(-flips.value)

    def full(theta: np.ndarray) -> np.ndarray:
        return np.vstack([weights[:fixed], theta.reshape(-1, design.shape[1])])

    def residual(theta: np.ndarray) -> np.ndarray:
        p = np.exp(log_scores(design @ full(theta).T, link))[rows, flips.label]
        gap: np.ndarray = np.log(p) - np.log1p(-p) - target
        return gap

    def linearise(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = design @ full(theta).T
        p = np.exp(log_scores(z, link))
        own = p[rows, flips.label]
        slope = np.ones_like(z) if link == "softmax" else 1 / (1 + np.exp(z))
        # d logit p_i / d z_k = (1[i = k] - p_k) / (1 - p_i)
        change = (np.eye(z.shape[1])[flips.label] - p) * slope / (1 - own)[:, None]
        J = (change[:, fixed:, None] * design[:, None]).reshape(len(design), -1)
        r = residual(theta)
        return r, J.T @ J, J.T @ r

    start = (weights[fixed:] - (weights[:1] if fixed else 0.0)).ravel()
    found = levenberg_marquardt(start, residual, linearise, max_steps=60, patience=4)
    return full(found.theta)


def _asked(oracle: Oracle, a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    return oracle.scores(a + t[:, None] * (b - a))


def _spread(order: np.ndarray, label: np.ndarray, wanted: int, classes: int) -> np.ndarray:
    """Return at most ``wanted`` of ``order``, as evenly over the classes as they allow."""
    share = int(np.ceil(wanted / classes))
    kept = np.concatenate([order[label[order] == k][:share] for k in range(classes)])
    rest = order[~np.isin(order, kept)]
    return np.concatenate([kept, rest])[:wanted]
