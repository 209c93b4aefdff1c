"""The published accountant: every query converted on its own, the epsilons added."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.privacy.composition import to_epsilon
from assay.privacy.gnmax import renyi
from assay.privacy.orders import PUBLISHED_ORDERS, FloatArray, as_log_q

__all__ = ["epsilon_each", "sum_of_epsilons"]

_BLOCK = 8192


def epsilon_each(
    log_q: ArrayLike,
    sigma: float,
    delta: float,
    *,
    orders: ArrayLike = PUBLISHED_ORDERS,
    tighter: bool = False,
) -> FloatArray:
    """Return epsilon of each query taken alone, in the shape of ``log_q``.

    Parameters
    ----------
    log_q
        Log flip probabilities, ``[...]``, at most 0.
    sigma, delta, orders, tighter
        See `renyi` and `to_epsilon`.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    Examples
    --------
    >>> epsilon_each([-157.847191, -0.7], 10, 1e-5).round(6)
    array([0.188261, 0.688615])
    """
    values = as_log_q(log_q)
    flat, result = np.ravel(values), np.empty(values.size)
    for start in range(0, flat.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        result[part] = to_epsilon(renyi(flat[part], sigma, orders), orders, delta, tighter=tighter)[0]
    return result.reshape(values.shape)


def sum_of_epsilons(
    log_q: ArrayLike, sigma: float, delta: float, *, orders: ArrayLike = PUBLISHED_ORDERS
) -> float:
    """Return the bill of the published scheme: the sum of single epsilons.

    Offered for comparison. It is basic composition (delta grows with the number of
    queries too) and bills every query ``log(1/delta)/(order - 1)`` again: a unanimous
    vote that leaks 1e-44 costs 0.188, so that the bill hardly tells queries apart. Use
    `compose` and one `to_epsilon` for a real total.

    Parameters
    ----------
    log_q
        Log flip probabilities of all queries, at most 0.
    sigma, delta, orders
        See `renyi` and `to_epsilon`.

    References
    ----------
    Dziedzic et al., "Increasing the Cost of Model Extraction with Calibrated Proof of
    Work", ICLR 2022, sections 4 and 5.

    Examples
    --------
    >>> round(sum_of_epsilons([-157.847191] * 1000, 10, 1e-5), 3)
    188.261
    """
    return float(np.sum(epsilon_each(log_q, sigma, delta, orders=orders)))
