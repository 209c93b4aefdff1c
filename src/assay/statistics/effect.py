"""How large a difference is: effect sizes with intervals, beside every p-value."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from assay.result import Effect
from assay.statistics.inputs import ALL_EQUAL, as_fraction, as_rows, fault, mean_gap, unit

__all__ = ["cohen_d", "mean_difference"]


def mean_difference(private: ArrayLike, control: ArrayLike, confidence: float = 0.95) -> Effect:
    """Difference of means, private minus control, with Welch's interval.

    Parameters
    ----------
    private, control
        One score per row, shapes ``[n]`` and ``[m]``.
    confidence
        Two-sided coverage in (0, 1).

    Returns
    -------
    Effect
        Named ``"mean-difference"``, in the unit of the scores. Groups that cannot be
        compared (fewer than two rows, non-finite scores) give 0 with infinite limits:
        nothing is known.

    Raises
    ------
    InvalidInput
        If a group is not of shape ``[n]`` or the confidence is out of range.

    References
    ----------
    Welch 1947, "The generalization of 'Student's' problem when several different
    population variances are involved".

    Examples
    --------
    >>> effect = mean_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    >>> effect.value, round(effect.low, 3), round(effect.high, 3)
    (1.0, -1.267, 3.267)
    """
    x, y = as_rows(private, "private"), as_rows(control, "control")
    confidence = as_fraction(confidence, "confidence")
    if fault(x, y) not in ("", ALL_EQUAL):
        return Effect("mean-difference", 0.0, -math.inf, math.inf, confidence)
    from scipy.special import stdtrit

    difference, scale = mean_gap(x, y), unit(x, y)
    a, b = float((x / scale).var(ddof=1)) / x.size, float((y / scale).var(ddof=1)) / y.size
    if a + b == 0.0:
        return Effect("mean-difference", difference, difference, difference, confidence)
    # Scaled by the sum first: squares of tiny variances would underflow.
    u, v = a / (a + b), b / (a + b)
    freedom = 1.0 / (u**2 / (x.size - 1) + v**2 / (y.size - 1))
    half = float(stdtrit(freedom, (1.0 + confidence) / 2.0)) * math.sqrt(a + b) * scale
    return Effect("mean-difference", difference, difference - half, difference + half, confidence)


def cohen_d(private: ArrayLike, control: ArrayLike, confidence: float = 0.95) -> Effect:
    """Standardised mean difference with its large-sample interval.

    The pooled standard deviation (``n + m - 2`` degrees of freedom) is the unit. The
    interval is the normal one with standard error
    ``sqrt((n + m) / (n m) + d^2 / (2 (n + m)))``; below about ten rows per group it is
    somewhat too narrow.

    Parameters
    ----------
    private, control
        One score per row, shapes ``[n]`` and ``[m]``.
    confidence
        Two-sided coverage in (0, 1).

    Returns
    -------
    Effect
        Named ``"cohen-d"``, positive if private rows score higher. Groups that cannot be
        compared, or that do not vary, give 0 with infinite limits: nothing is known.

    Raises
    ------
    InvalidInput
        If a group is not of shape ``[n]`` or the confidence is out of range.

    References
    ----------
    Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", section 2.2;
    Hedges and Olkin 1985, "Statistical Methods for Meta-Analysis", chapter 5.

    Examples
    --------
    >>> effect = cohen_d([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    >>> effect.value, round(effect.low, 3), round(effect.high, 3)
    (1.0, -0.697, 2.697)
    """
    x, y = as_rows(private, "private"), as_rows(control, "control")
    confidence = as_fraction(confidence, "confidence")
    nothing = Effect("cohen-d", 0.0, -math.inf, math.inf, confidence)
    if fault(x, y):
        return nothing
    from scipy.special import ndtri

    n, m, scale = x.size, y.size, unit(x, y)
    x, y = x / scale, y / scale
    pooled = math.sqrt(((n - 1) * float(x.var(ddof=1)) + (m - 1) * float(y.var(ddof=1))) / (n + m - 2))
    if pooled == 0.0:
        return nothing
    d = float(x.mean() - y.mean()) / pooled
    half = float(ndtri((1.0 + confidence) / 2.0)) * math.sqrt((n + m) / (n * m) + d**2 / (2.0 * (n + m)))
    return Effect("cohen-d", d, d - half, d + half, confidence)
