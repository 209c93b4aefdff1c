"""Levenberg-Marquardt on scaled normal equations, for least squares of a few thousand unknowns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

__all__ = ["Fit", "Linearise", "levenberg_marquardt"]

# At a point: the residual r, the matrix J'J and the vector J'r.
Linearise = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
Residual = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Fit:
    """Where a least-squares search ended.

    Parameters
    ----------
    theta
        Unknowns, float64 ``[k]``.
    cost
        Sum of squared residuals there.
    steps
        Accepted steps.
    """

    theta: np.ndarray
    cost: float
    steps: int


def levenberg_marquardt(
    theta: np.ndarray,
    residual: Residual,
    linearise: Linearise,
    *,
    max_steps: int = 50,
    floor: float = 0.0,
    patience: int = 2,
    damping: float = 1e-6,
    tries: int = 25,
) -> Fit:
    """Minimise ``sum(residual(theta) ** 2)``.

    Unknowns are scaled by the diagonal of ``J'J``: without it, weights and biases of units of
    very different size stall the search. Damping may rise by many decades within one step,
    because a curved valley gives up its steps only then.

    Parameters
    ----------
    theta
        Start, float64 ``[k]``.
    residual, linearise
        The residual, and the residual with ``J'J`` and ``J'r``.
    max_steps
        Accepted steps, at most.
    floor
        Cost at which the search is done: what noise alone would leave.
    patience
        Steps in a row that may gain less than one per cent.
    damping
        Damping to start with, relative to the scaled diagonal.
    tries
        Damping values tried for one step, each 8 times the last.

    Examples
    --------
    >>> points = np.array([0.0, 1.0, 2.0])
    >>> def residual(t):
    ...     return np.exp(t[0] * points) - np.exp(0.5 * points)
    >>> def linearise(t):
    ...     J = (points * np.exp(t[0] * points))[:, None]
    ...     return residual(t), J.T @ J, J.T @ residual(t)
    >>> float(levenberg_marquardt(np.zeros(1), residual, linearise, floor=1e-28).theta[0].round(12))
    0.5
    """
    best = theta
    cost = _cost(residual(best))
    slow = steps = 0
    while steps < max_steps and cost > floor and slow < patience:
        _, H, g = linearise(best)
        scale = np.sqrt(np.maximum(np.diag(H), np.finfo(float).tiny))
        H = H / scale / scale[:, None]
        found = _step(best, cost, (H, g / scale, scale), residual, damping, tries)
        if found is None:
            break
        gain = found[1] < 0.99 * cost
        best, cost, damping = found
        slow = 0 if gain else slow + 1
        damping = max(damping / 100, 1e-16)
        steps += 1
    return Fit(best, cost, steps)


def _step(
    theta: np.ndarray,
    cost: float,
    system: tuple[np.ndarray, np.ndarray, np.ndarray],
    residual: Residual,
    damping: float,
    tries: int,
) -> tuple[np.ndarray, float, float] | None:
    H, g, scale = system
    diagonal = np.arange(len(g))
    for _ in range(tries):
        damped = H.copy()
        damped[diagonal, diagonal] += damping
        try:
            factor = linalg.cho_factor(damped, overwrite_a=True, check_finite=False)
            step = linalg.cho_solve(factor, g, check_finite=False)
        except linalg.LinAlgError:
            damping *= 8
            continue
        # One refinement: what rounding lost in the factor matters for the last digits.
        step += linalg.cho_solve(factor, g - H @ step - damping * step, check_finite=False)
        new = theta - step / scale
        reached = _cost(residual(new))
        if reached < cost:
            return new, reached, damping
        # A step below rounding cannot help any more, whatever the damping.
        if np.abs(step / scale).max() <= 1e-16 * np.abs(theta).max():
            return None
        damping *= 8
    return None


def _cost(r: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(np.sum(r * r))
    return value if np.isfinite(value) else float("inf")
