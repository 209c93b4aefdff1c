"""Null models: what a statistic looks like for models that are known to be independent."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from assay.errors import InvalidInput
from assay.result import Interval, TestResult
from assay.statistics.binomial import clopper_pearson
from assay.statistics.inputs import Rng, as_p_values, as_rows

__all__ = ["false_positive_rate", "prediction_t_test", "rank_p_value", "uniformity"]

_TWO = 2


def rank_p_value(observed: float, null_values: ArrayLike, rng: Rng | None = None) -> float:
    """Rank of the observed statistic among exchangeable ones.

    ``(1 + #{null >= observed}) / (R + 1)`` is exact if, under the null, the observed value
    is exchangeable with the R others: decoy secrets passed through the same pipeline, or
    independent models of the same kind.

    Parameters
    ----------
    observed
        Statistic of the suspect (or of the true secret); larger is more suspicious.
    null_values
        Statistics of R null models (or decoys), shape ``[R]``.
    rng
        None: ties count against the claim. A seed or generator: ties are broken at random,
        which is exact too and less conservative for coarse statistics.

    Returns
    -------
    float
        In ``[1 / (R + 1), 1]``. Non-finite values count against the claim.

    Raises
    ------
    InvalidInput
        If ``null_values`` has not shape ``[R]``.

    Examples
    --------
    >>> rank_p_value(3.0, [0.0, 1.0, 2.0])
    0.25
    """
    null = as_rows(null_values, "null_values")
    if not math.isfinite(observed):
        return 1.0
    above = int(np.count_nonzero(~(null <= observed)))
    ties = int(np.count_nonzero(null == observed))
    if rng is not None:
        ties = int(np.random.default_rng(rng).integers(ties + 1))
    return (1 + above + ties) / (null.size + 1)


def prediction_t_test(observed: float, null_values: ArrayLike) -> TestResult:
    """Parametric companion of the rank test for few null models.

    With R null models no rank p-value falls below ``1 / (R + 1)``. If the statistic is
    normal over independent models, ``(T - mean) / (sd sqrt(1 + 1/R))`` follows Student's t
    with R - 1 degrees of freedom.

    Parameters
    ----------
    observed
        Statistic of the suspect; larger is more suspicious.
    null_values
        Statistics of R >= 2 null models, shape ``[R]``.

    Returns
    -------
    TestResult
        ``exact`` is False. No spread, too few or non-finite values give ``p_value == 1``
        and a reason.

    Raises
    ------
    InvalidInput
        If ``null_values`` has not shape ``[R]``.

    References
    ----------
    Geisser 1993, "Predictive Inference", chapter 2.

    Examples
    --------
    >>> round(prediction_t_test(4.0, [0.0, 1.0, -1.0, 0.5, -0.5]).p_value, 4)
    0.0049
    """
    null = as_rows(null_values, "null_values")
    size = null.size
    reason, statistic, p = "", 0.0, 1.0
    if size < _TWO:
        reason = f"{size} null model(s); at least 2 are needed"
    elif not (math.isfinite(observed) and np.all(np.isfinite(null))):
        reason = "a statistic is not finite"
    elif null.min() == null.max() or float(null.std(ddof=1)) == 0.0:
        reason = "the null models do not vary"
    else:
        from scipy.special import stdtr

        statistic = (observed - float(null.mean())) / (float(null.std(ddof=1)) * math.sqrt(1.0 + 1.0 / size))
        p = max(float(stdtr(size - 1, -statistic)), float(np.finfo(np.float64).tiny))
    return TestResult(
        test="prediction-t (parametric)",
        null="the suspect's statistic comes from the normal distribution of the null models' statistics",
        statistic=statistic,
        p_value=p,
        n={"null_models": size},
        exact=False,
        reason=reason,
    )


def false_positive_rate(rejections: int, trials: int, confidence: float = 0.95) -> Interval:
    """Rate of "stolen" among models known to be independent, with its exact interval.

    Parameters
    ----------
    rejections, trials
        Counts, ``0 <= rejections <= trials``.
    confidence
        Coverage in (0, 1).

    Returns
    -------
    Interval
        Clopper-Pearson.

    Raises
    ------
    InvalidInput
        If counts or confidence are out of range.

    Examples
    --------
    >>> round(false_positive_rate(0, 100).high, 3)
    0.036
    """
    return clopper_pearson(rejections, trials, confidence)


def uniformity(
    p_values: ArrayLike, alternative: Literal["too-small", "two-sided"] = "too-small"
) -> TestResult:
    """Kolmogorov-Smirnov check of p-values collected under the null.

    Parameters
    ----------
    p_values
        Independent p-values of null cases, shape ``[n]``, in [0, 1].
    alternative
        ``"too-small"``: are they smaller than uniform ones (an invalid test)? Conservative
        p-values pass. ``"two-sided"``: do they differ from uniform ones in any way?

    Returns
    -------
    TestResult
        A small p-value says that the checked test is broken.

    Raises
    ------
    InvalidInput
        If a p-value lies outside [0, 1] or there is none.

    Examples
    --------
    >>> grid = (np.arange(100) + 0.5) / 100
    >>> uniformity(grid).p_value > 0.9, uniformity(grid**3).p_value < 1e-6
    (True, True)
    """
    p = as_p_values(p_values).ravel()
    if alternative not in ("too-small", "two-sided"):
        msg = f'alternative must be "too-small" or "two-sided", got {alternative!r}'
        raise InvalidInput(msg)
    from scipy.stats import kstest

    small = alternative == "too-small"
    found = kstest(p, "uniform", alternative="greater" if small else "two-sided")
    return TestResult(
        test="kolmogorov-smirnov",
        null=f"the p-values are {'not smaller than' if small else 'exactly'} uniform",
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        n={"p_values": p.size},
        exact=True,
    )
