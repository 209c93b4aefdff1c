"""Scale and bias of a hidden unit from how its slope changes between points."""

from __future__ import annotations

import numpy as np
from scipy import optimize

__all__ = ["scale_and_bias"]

_GRID = (40, 49)  # scales x biases; ten times finer finds no better optimum
_STARTS = 6


def scale_and_bias(along: np.ndarray, slopes: np.ndarray) -> tuple[float, float]:
    """Fit ``slopes ~ k sech^2(s t + b)`` over the scale ``s > 0``, the bias ``b`` and any ``k``.

    tanh is odd, so that ``(s, b)`` and ``(-s, -b)`` are the same unit: ``s > 0`` loses nothing.

    Parameters
    ----------
    along
        Where the points are along the unit's direction, ``t``, float64 ``[n]``, n >= 4.
    slopes
        The unit's slope there up to a common factor, float64 ``[n]``.

    Returns
    -------
    tuple of float
        ``s`` and ``b``.

    Examples
    --------
    >>> t = np.linspace(-1, 1, 6)
    >>> s, b = scale_and_bias(t, -3 * (1 - np.tanh(1.5 * t + 0.3) ** 2))
    >>> round(s, 9), round(b, 9)
    (1.5, 0.3)
    """
    middle = along.mean()
    reach = max(float(np.abs(along - middle).max()), np.finfo(float).tiny)
    t, size = (along - middle) / reach, max(float(np.linalg.norm(slopes)), np.finfo(float).tiny)
    wanted = slopes / size
    scales, biases = np.meshgrid(
        np.geomspace(0.03, 12, _GRID[0]), np.linspace(-6, 6, _GRID[1]), indexing="ij"
    )
    shape = 1 - np.tanh(scales[..., None] * t + biases[..., None]) ** 2
    factor = (shape @ wanted) / np.maximum((shape * shape).sum(-1), np.finfo(float).tiny)
    misfit = ((wanted - factor[..., None] * shape) ** 2).sum(-1)

    def residual(v: np.ndarray) -> np.ndarray:
        bump = 1 - np.tanh(v[0] * t + v[1]) ** 2
        k = (bump @ wanted) / max(bump @ bump, np.finfo(float).tiny)
        gap: np.ndarray = wanted - k * bump
        return gap

    best = None
    for i in np.argsort(misfit, axis=None)[:_STARTS]:
        start = [scales.flat[i], biases.flat[i]]
        fit = optimize.least_squares(residual, start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
        if best is None or fit.cost < best.cost:
            best = fit
    assert best is not None
    s, b = best.x if best.x[0] >= 0 else -best.x
    return float(s / reach), float(b - s * middle / reach)
