"""Many suspects or many tests: adjusted p-values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.statistics.inputs import FloatArray, as_p_values

__all__ = ["benjamini_hochberg", "holm"]


def holm(p_values: ArrayLike) -> FloatArray:
    """Adjust for the chance of any false rejection (family-wise), under any dependence.

    Parameters
    ----------
    p_values
        Shape ``[n]``, in [0, 1].

    Returns
    -------
    numpy.ndarray
        Adjusted p-values in the given order; reject where ``<= alpha``.

    Raises
    ------
    InvalidInput
        If a p-value lies outside [0, 1] or there is none.

    References
    ----------
    Holm 1979, "A simple sequentially rejective multiple test procedure".

    Examples
    --------
    >>> holm([0.04, 0.01, 0.03]).round(2)
    array([0.06, 0.03, 0.06])
    """
    p = as_p_values(p_values).ravel()
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> FloatArray:
    """Adjust for the share of false rejections (false discovery rate).

    Valid for independent or positively dependent p-values; use `holm` otherwise.

    Parameters
    ----------
    p_values
        Shape ``[n]``, in [0, 1].

    Returns
    -------
    numpy.ndarray
        Adjusted p-values in the given order; reject where ``<= alpha``.

    Raises
    ------
    InvalidInput
        If a p-value lies outside [0, 1] or there is none.

    References
    ----------
    Benjamini and Hochberg 1995, "Controlling the false discovery rate".

    Examples
    --------
    >>> benjamini_hochberg([0.04, 0.01, 0.03]).round(2)
    array([0.04, 0.03, 0.04])
    """
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(as_p_values(p_values).ravel(), method="bh"), dtype=np.float64)
