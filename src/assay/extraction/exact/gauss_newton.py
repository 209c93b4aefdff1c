"""Weights of a linear model from logarithms of its scores, by damped Gauss-Newton steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import log_expit, logsumexp

from assay.extraction.exact.levenberg import levenberg_marquardt

__all__ = ["Fit", "Link", "fit_logs", "log_scores", "one_vs_rest_starts"]

Link = Literal["softmax", "one-vs-rest"]
_SPREAD = 0.1
_DAMPING = 1e-3
_PATIENCE = 8  # steps that gain less than one per cent
_SOLVED = 1e-9  # largest residual of a log-score at which a start has found the answer
_CERTAIN = 0.98
_MOST_STEPS = 60


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights with what is left over.

    Parameters
    ----------
    coef, intercept
        float64 ``[c, d]`` and ``[c]``; class 0 of a softmax has zeros.
    residual
        Largest absolute difference of a log-score.
    starts
        Starts that were needed.
    """

    coef: np.ndarray
    intercept: np.ndarray
    residual: float
    starts: int


def log_scores(z: np.ndarray, link: Link) -> np.ndarray:
    """Return the log-scores ``[n, c]`` of decision values ``[n, c]``.

    Examples
    --------
    >>> np.exp(log_scores(np.zeros((1, 4)), "one-vs-rest")).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    raw = z if link == "softmax" else log_expit(z)
    return np.asarray(raw - logsumexp(raw, axis=1, keepdims=True))


def one_vs_rest_starts(x: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Return weights ``[c, d + 1]`` for two guesses of the sum by which scores were divided.

    The sum of one-vs-rest probabilities is near 1 for a trained model and near half the
    number of classes for random weights; for either constant, decision values are linear.

    Parameters
    ----------
    x, scores
        Inputs float64 ``[n, d]`` and answers ``[n, c]``.
    """
    design = np.column_stack([x, np.ones(len(x))])
    found = []
    for total in (1.0, 0.5 * scores.shape[1]):
        p = np.clip(scores * total, np.finfo(float).tiny, _CERTAIN)
        found.append(np.linalg.lstsq(design, np.log(p) - np.log1p(-p), rcond=1e-10)[0].T)
    return found


def fit_logs(
    x: np.ndarray,
    scores: np.ndarray,
    link: Link,
    rng: np.random.Generator,
    *,
    restarts: int = 3,
    starts: Sequence[np.ndarray] = (),
) -> Fit:
    """Fit weights to the scores that are above 0.

    The softmax of complete rows has a closed form and needs none of this; it is here for
    rows of which only some scores are shown, and for one-vs-rest, whose answers are no
    linear function of the weights.

    Parameters
    ----------
    x
        Inputs, float64 ``[n, d]``.
    scores
        Answers, float64 ``[n, c]``; entries of 0 are not shown.
    link
        How decision values become scores.
    rng
        Of the starting points.
    restarts
        Starts to try at most.
    starts
        First starting points, ``[c, d + 1]`` each, instead of random ones.
    """
    rows, classes = scores.shape
    design = np.column_stack([x, np.ones(rows)])
    shown = scores > 0
    target = np.log(np.where(shown, scores, 1.0))[shown]
    fixed = 1 if link == "softmax" else 0  # a shift common to all classes is no unknown
    shape = (classes - fixed, design.shape[1])

    def weights(flat: np.ndarray) -> np.ndarray:
        return np.vstack([np.zeros((fixed, shape[1])), flat.reshape(shape)])

    def residual(flat: np.ndarray) -> np.ndarray:
        return np.asarray(log_scores(design @ weights(flat).T, link)[shown] - target)

    def jacobian(flat: np.ndarray) -> np.ndarray:
        z = design @ weights(flat).T
        p = np.exp(log_scores(z, link))
        # d log p_i / d z_k = (1[i = k] - p_k) g_k, with g = 1 or the slope of log expit.
        slope = np.ones_like(z) if link == "softmax" else np.exp(log_expit(-z))
        change = (np.eye(classes)[None] - p[:, None, :]) * slope[:, None, :]
        full = change[shown][:, fixed:, None] * design[np.nonzero(shown)[0], None, :]
        return np.asarray(full.reshape(len(target), -1))

    def linearise(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r, J = residual(flat), jacobian(flat)
        return r, J.T @ J, J.T @ r

    best: Fit | None = None
    for attempt in range(1, restarts + 1):
        if attempt <= len(starts):
            flat = starts[attempt - 1][fixed:] - (starts[attempt - 1][:1] if fixed else 0.0)
        else:
            flat = _SPREAD * rng.standard_normal(shape)
        found = levenberg_marquardt(
            np.ravel(flat), residual, linearise, max_steps=_MOST_STEPS, patience=_PATIENCE, damping=_DAMPING
        )
        w = weights(found.theta)
        left = float(np.abs(residual(found.theta)).max()) if len(target) else 0.0
        if best is None or left < best.residual:
            best = Fit(w[:, :-1], w[:, -1], left, attempt)
        if left < _SOLVED:
            break
    assert best is not None
    return best
