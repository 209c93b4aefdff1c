"""Welch's unequal-variance t-test, one array operation for any number of tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.registry import register
from assay.result import TestResult
from assay.statistics.effect import cohen_d
from assay.statistics.inputs import Alternative, FloatArray, as_alternative, as_rows, fault, mean_gap

__all__ = ["welch_p_values", "welch_test"]

_TWO = 2


def welch_p_values(
    private: ArrayLike, control: ArrayLike, alternative: Alternative = "greater"
) -> FloatArray:
    """One-sided (by default) Welch p-values over all leading axes at once.

    Parameters
    ----------
    private, control
        Shapes ``[..., n]`` and ``[..., m]`` with leading axes that broadcast.
    alternative
        ``"greater"`` (private mean is larger), ``"less"`` or ``"two-sided"``.

    Returns
    -------
    numpy.ndarray
        float64, the broadcast leading shape. A test without variance, with non-finite
        scores or with fewer than two rows in a group has p = 1.

    Raises
    ------
    InvalidInput
        On scalars, leading axes that do not broadcast, or an unknown alternative.

    References
    ----------
    Maini et al. 2021, "Dataset Inference: Ownership Resolution in Machine Learning"
    (the test used there).

    Examples
    --------
    >>> welch_p_values([[3.0, 4.0, 5.0], [1.0, 1.0, 1.0]], [1.0, 2.0, 4.0]).round(4)
    array([0.1001, 0.8651])
    """
    x, y = np.asarray(private, dtype=np.float64), np.asarray(control, dtype=np.float64)
    direction = as_alternative(alternative)
    if x.ndim < 1 or y.ndim < 1:
        msg = "welch_p_values needs arrays of shape [..., n] and [..., m], got a scalar"
        raise InvalidInput(msg)
    try:
        shape = np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    except ValueError as error:
        msg = f"leading axes {list(x.shape[:-1])} and {list(y.shape[:-1])} do not broadcast"
        raise InvalidInput(msg) from error
    n, m = x.shape[-1], y.shape[-1]
    if n < _TWO or m < _TWO:
        return np.ones(shape)
    from scipy.special import stdtr

    # Infinite scores make NaN on the way; they end as p = 1 below.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        a, b = x.var(axis=-1, ddof=1) / n, y.var(axis=-1, ddof=1) / m
        # The mean of equal scores can differ from them by rounding: no variance means max == min.
        a = np.where(x.max(axis=-1) == x.min(axis=-1), 0.0, a)
        b = np.where(y.max(axis=-1) == y.min(axis=-1), 0.0, b)
        total = a + b
        t = (x.mean(axis=-1) - y.mean(axis=-1)) / np.sqrt(total)
        # Shares first: squares of tiny variances would underflow.
        freedom = 1.0 / ((a / total) ** 2 / (n - 1) + (b / total) ** 2 / (m - 1))
        usable = np.isfinite(t) & np.isfinite(freedom) & (total > 0.0)
    t, freedom = np.where(usable, t, 0.0), np.where(usable, freedom, 1.0)
    if direction == "greater":
        p = stdtr(freedom, -t)
    elif direction == "less":
        p = stdtr(freedom, t)
    else:
        p = 2.0 * stdtr(freedom, -np.abs(t))
    # Far in the tail the t distribution underflows; a p-value is never zero.
    return np.asarray(np.where(usable, np.maximum(p, np.finfo(np.float64).tiny), 1.0), dtype=np.float64)


@register("welch", kind="test")
def welch_test(
    private: ArrayLike,
    control: ArrayLike,
    alternative: Alternative = "greater",
    *,
    confidence: float = 0.95,
) -> TestResult:
    """Welch's t-test of mean(private) - mean(control).

    It needs near-normal means; the permutation test does not, which is why this one is a
    companion.

    Parameters
    ----------
    private, control
        One score per row, shapes ``[n]`` and ``[m]``.
    alternative
        ``"greater"``, ``"less"`` or ``"two-sided"``.
    confidence
        Coverage of the effect's interval, in (0, 1).

    Returns
    -------
    TestResult
        Statistic: mean difference; effect: Cohen's d. Scores that cannot be compared give
        ``p_value == 1`` and a reason.

    Raises
    ------
    InvalidInput
        On wrong shapes or an unknown alternative.

    References
    ----------
    Maini et al. 2021, "Dataset Inference: Ownership Resolution in Machine Learning".

    Examples
    --------
    >>> round(welch_test([3.0, 4.0, 5.0], [1.0, 2.0, 4.0]).p_value, 4)
    0.1001
    """
    x, y = as_rows(private, "private"), as_rows(control, "control")
    reason = fault(x, y)
    if not reason and x.min() == x.max() and y.min() == y.max():
        reason = "neither group varies"
    p = float(welch_p_values(x, y, alternative)) if not reason else 1.0
    return TestResult(
        test="welch",
        null="private and control rows have the same mean score (normal means)",
        statistic=0.0 if fault(x, y) else mean_gap(x, y),
        p_value=p,
        n={"private": x.size, "control": y.size},
        effect=None if reason else cohen_d(x, y, confidence),
        exact=False,
        reason=reason,
    )
