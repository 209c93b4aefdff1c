"""One conclusion from several p-values or e-values, with the assumption in plain sight.

P-value rules here hold under any dependence between the tests. Rules that need
independence or hold only approximately (Fisher, Cauchy, harmonic mean) are absent on
purpose: tests of one suspect share images and queries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.statistics.inputs import FloatArray, as_fraction, as_p_values

__all__ = ["average_e", "bonferroni_combine", "e_to_p", "p_to_e", "product_e", "twice_mean"]

_ROUNDING = 1e-9


def bonferroni_combine(p_values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Smallest p-value over its weight; valid under any dependence.

    Parameters
    ----------
    p_values
        Shape ``[n]``, in [0, 1].
    weights
        Positive shares fixed beforehand, sum at most 1; equal by default.

    Returns
    -------
    float
        A p-value of the intersection null, in [0, 1].

    Raises
    ------
    InvalidInput
        If p-values or weights are out of range.

    Examples
    --------
    >>> bonferroni_combine([0.5, 0.002])
    0.004
    """
    p = as_p_values(p_values).ravel()
    w = _weights(weights, p.size)
    if np.any(w == 0.0):
        msg = "Bonferroni weights must be positive; leave the test out instead"
        raise InvalidInput(msg)
    return float(min(1.0, np.min(p / w)))


def twice_mean(p_values: ArrayLike) -> float:
    """Twice the arithmetic mean; valid under any dependence.

    Better than Bonferroni if the p-values are strongly dependent and alike.

    Parameters
    ----------
    p_values
        Shape ``[n]``, in [0, 1].

    Returns
    -------
    float
        A p-value of the intersection null, in [0, 1].

    Raises
    ------
    InvalidInput
        If a p-value lies outside [0, 1] or there is none.

    References
    ----------
    Rueschendorf 1982, "Random variables with maximum sums";
    Vovk and Wang 2020, "Combining p-values via averaging".

    Examples
    --------
    >>> round(twice_mean([0.01, 0.03]), 6)
    0.04
    """
    p = as_p_values(p_values).ravel()
    return float(min(1.0, 2.0 * p.mean()) if p.size > 1 else p[0])


def average_e(e_values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted average of e-values: an e-value under any dependence.

    Parameters
    ----------
    e_values
        Shape ``[n]``, at least 0.
    weights
        Non-negative shares fixed beforehand, sum at most 1; equal by default.

    Returns
    -------
    float
        At least 0; its reciprocal is a p-value.

    Raises
    ------
    InvalidInput
        If an e-value is negative or not a number, or the weights are out of range.

    References
    ----------
    Vovk and Wang 2021, "E-values: calibration, combination and applications".

    Examples
    --------
    >>> average_e([30.0, 0.0])
    15.0
    """
    e = _e_values(e_values)
    w = _weights(weights, e.size)
    # An infinite e-value with weight 0 must not make NaN.
    return float(np.sum(e[w > 0.0] * w[w > 0.0]))


def product_e(e_values: ArrayLike) -> float:
    """Product of e-values: an e-value ONLY if they are independent or sequential.

    Sequential: each is an e-value given everything that came before it (stages on disjoint,
    randomly assigned images). For stages that share images use `average_e`.

    Parameters
    ----------
    e_values
        Shape ``[n]``, at least 0.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    InvalidInput
        If an e-value is negative or not a number.

    References
    ----------
    Vovk and Wang 2021, "E-values: calibration, combination and applications".

    Examples
    --------
    >>> product_e([10.0, 20.0])
    200.0
    """
    e = _e_values(e_values)
    # One e-value of 0 has lost everything, even beside an infinite one.
    with np.errstate(over="ignore"):
        return 0.0 if np.any(e == 0.0) else float(np.prod(e))


def p_to_e(p_values: ArrayLike, kappa: float = 0.5) -> FloatArray:
    """Calibrate p-values into e-values: ``kappa p^(kappa - 1)``.

    Parameters
    ----------
    p_values
        Any shape, in [0, 1]; 0 gives infinity.
    kappa
        In (0, 1), fixed beforehand; smaller favours very small p-values.

    Returns
    -------
    numpy.ndarray
        float64, the same shape, expectation at most 1 under the null.

    Raises
    ------
    InvalidInput
        If p-values or kappa are out of range.

    References
    ----------
    Shafer et al. 2011, "Test martingales, Bayes factors and p-values".

    Examples
    --------
    >>> p_to_e([0.0001, 1.0])
    array([50. ,  0.5])
    """
    p = as_p_values(p_values)
    kappa = as_fraction(kappa, "kappa")
    with np.errstate(divide="ignore"):
        return np.asarray(kappa * p ** (kappa - 1.0), dtype=np.float64)


def e_to_p(e_values: ArrayLike) -> FloatArray:
    """Turn e-values into p-values by Markov's inequality: ``min(1, 1 / e)``.

    Parameters
    ----------
    e_values
        Any shape, at least 0.

    Returns
    -------
    numpy.ndarray
        float64, the same shape, in [0, 1].

    Raises
    ------
    InvalidInput
        If an e-value is negative or not a number.

    Examples
    --------
    >>> e_to_p([100.0, 0.5])
    array([0.01, 1.  ])
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(1.0, 1.0 / _e_values(e_values)), dtype=np.float64)


def _e_values(e_values: ArrayLike) -> FloatArray:
    e = np.asarray(e_values, dtype=np.float64)
    if e.size == 0 or not np.all(e >= 0.0):
        msg = "e-values must be a non-empty array of numbers >= 0"
        raise InvalidInput(msg)
    return e


def _weights(weights: ArrayLike | None, size: int) -> FloatArray:
    if weights is None:
        return np.full(size, 1.0 / size)
    w = np.asarray(weights, dtype=np.float64).ravel()
    if w.size != size or not np.all(w >= 0.0) or w.sum() > 1.0 + _ROUNDING:
        msg = f"weights must be {size} non-negative numbers with sum at most 1"
        raise InvalidInput(msg)
    return w
