"""The Rényi orders at which leakage is tracked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import InvalidInput

__all__ = ["ORDERS", "PUBLISHED_ORDERS", "FloatArray", "as_delta", "as_log_q", "as_orders", "as_sigma"]

FloatArray = NDArray[np.float64]


def _fixed(values: FloatArray) -> FloatArray:
    values.setflags(write=False)  # shared by every caller
    return values


PUBLISHED_ORDERS: FloatArray = _fixed(
    np.concatenate([np.arange(2.0, 100.0, 0.5), np.logspace(2.0, 3.0, num=200)])
)
"""The 396 orders of Dziedzic et al. 2022: 2, 2.5, ..., 99.5 and 200 from 100 to 1000."""

# Totals of thousands of costly queries have their best order below 2, where the published grid ends.
ORDERS: FloatArray = _fixed(np.concatenate([1.0 + np.geomspace(0.01, 0.98, num=40), PUBLISHED_ORDERS]))
"""The published orders and 40 more between 1 and 2."""


def as_orders(orders: ArrayLike) -> FloatArray:
    """Return Rényi orders as float64 ``[k]``; raise `InvalidInput` unless all are finite and above 1.

    Examples
    --------
    >>> as_orders([2, 4])
    array([2., 4.])
    """
    result = np.atleast_1d(np.asarray(orders, dtype=np.float64))
    if result.ndim != 1 or not result.size or not bool(np.all(np.isfinite(result) & (result > 1))):
        msg = "Rényi orders must be finite numbers above 1"
        raise InvalidInput(msg)
    return result


def as_sigma(sigma: float) -> float:
    """Return the standard deviation of the vote noise; raise `InvalidInput` unless finite and > 0.

    Examples
    --------
    >>> as_sigma(10)
    10.0
    """
    value = float(sigma)
    if not 0 < value < np.inf:
        msg = f"sigma (standard deviation of the noise on votes) must be finite and above 0, got {sigma!r}"
        raise InvalidInput(msg)
    return value


def as_delta(delta: float) -> float:
    """Return the delta of (epsilon, delta); raise `InvalidInput` unless it lies in (0, 1).

    Examples
    --------
    >>> as_delta(1e-5)
    1e-05
    """
    value = float(delta)
    if not 0 < value < 1:
        msg = f"delta must lie strictly between 0 and 1, got {delta!r}; 1e-5 is usual"
        raise InvalidInput(msg)
    return value


def as_log_q(log_q: ArrayLike) -> FloatArray:
    """Return logarithms of probabilities as float64; raise `InvalidInput` for NaN and values above 0.

    Examples
    --------
    >>> as_log_q(-1)
    array(-1.)
    """
    result = np.asarray(log_q, dtype=np.float64)
    if not bool(np.all(result <= 0)):  # also false for NaN
        msg = "log q must be logarithms of probabilities: numbers of at most 0, no NaN"
        raise InvalidInput(msg)
    return result
