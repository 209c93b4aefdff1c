"""Rates: exact binomial test and intervals for counts of successes."""

from __future__ import annotations

import sys
from typing import Literal

from assay.errors import InvalidInput
from assay.result import Effect, Interval, TestResult
from assay.statistics.inputs import Alternative, as_alternative, as_count, as_fraction

__all__ = ["binomial_test", "clopper_pearson", "upper_rate", "wilson"]


def binomial_test(
    successes: int,
    trials: int,
    null_rate: float,
    alternative: Alternative = "greater",
    *,
    confidence: float = 0.95,
) -> TestResult:
    """Exact test that a success rate is no larger than ``null_rate``.

    Parameters
    ----------
    successes, trials
        Counts, ``0 <= successes <= trials``.
    null_rate
        Rate under the null, in [0, 1].
    alternative
        ``"greater"``, ``"less"`` or ``"two-sided"``.
    confidence
        Coverage of the effect's Clopper-Pearson interval, in (0, 1).

    Returns
    -------
    TestResult
        Statistic: observed rate; effect: ``"rate-difference"``, observed minus null rate.
        No trials give ``p_value == 1`` and a reason.

    Raises
    ------
    InvalidInput
        If counts or rates are out of range.

    References
    ----------
    Clopper and Pearson 1934, "The use of confidence or fiducial limits".

    Examples
    --------
    >>> round(binomial_test(8, 10, 0.5).p_value, 5)
    0.05469
    """
    successes, trials = _counts(successes, trials)
    rate = as_fraction(null_rate, "null_rate", closed=True)
    direction = as_alternative(alternative)
    relation = {"greater": "at most", "less": "at least", "two-sided": "exactly"}[direction]
    null = f"trials succeed independently with probability {relation} {rate:g}"
    if trials == 0:
        return TestResult("binomial", null, 0.0, 1.0, {"trials": 0}, None, exact=True, reason="no trials")
    from scipy.stats import binomtest

    p = float(binomtest(successes, trials, rate, alternative=direction).pvalue)
    observed = clopper_pearson(successes, trials, confidence)
    effect = Effect(
        "rate-difference", observed.value - rate, observed.low - rate, observed.high - rate, confidence
    )
    # Impossible under the null (null_rate 0) or beyond float64: the smallest p-value there is.
    return TestResult(
        "binomial",
        null,
        observed.value,
        min(1.0, max(p, sys.float_info.min)),
        {"trials": trials},
        effect,
        exact=True,
    )


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval of a rate; covers at least ``confidence`` for every true rate.

    Parameters
    ----------
    successes, trials
        Counts; no trials give [0, 1].
    confidence
        Coverage in (0, 1).

    Returns
    -------
    Interval
        ``method == "clopper-pearson"``.

    Raises
    ------
    InvalidInput
        If counts or confidence are out of range.

    Examples
    --------
    >>> interval = clopper_pearson(0, 20)
    >>> interval.low, round(interval.high, 4)
    (0.0, 0.1684)
    """
    return _interval(successes, trials, confidence, "clopper-pearson")


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Two-sided score interval of a rate; covers about ``confidence`` on average.

    Parameters
    ----------
    successes, trials
        Counts; no trials give [0, 1].
    confidence
        Coverage in (0, 1).

    Returns
    -------
    Interval
        ``method == "wilson"``.

    Raises
    ------
    InvalidInput
        If counts or confidence are out of range.

    References
    ----------
    Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Examples
    --------
    >>> interval = wilson(5, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.2366, 0.7634)
    """
    return _interval(successes, trials, confidence, "wilson")


def upper_rate(successes: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a rate.

    Parameters
    ----------
    successes, trials
        Counts; no trials give 1.
    confidence
        Coverage in (0, 1).

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    InvalidInput
        If counts or confidence are out of range.

    Examples
    --------
    >>> round(upper_rate(0, 300), 4)
    0.0099
    """
    successes, trials = _counts(successes, trials)
    confidence = as_fraction(confidence, "confidence")
    if successes == trials:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(successes + 1, trials - successes, confidence))


def _interval(
    successes: int, trials: int, confidence: float, method: Literal["clopper-pearson", "wilson"]
) -> Interval:
    successes, trials = _counts(successes, trials)
    confidence = as_fraction(confidence, "confidence")
    if trials == 0:
        return Interval(0.5, 0.0, 1.0, confidence, method)
    from scipy.stats import binomtest

    name = "exact" if method == "clopper-pearson" else "wilson"
    limits = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method=name)
    return Interval(successes / trials, float(limits.low), float(limits.high), confidence, method)


def _counts(successes: int, trials: int) -> tuple[int, int]:
    trials = as_count(trials, "trials", least=0)
    successes = as_count(successes, "successes", least=0)
    if successes > trials:
        msg = f"{successes} successes out of {trials} trials"
        raise InvalidInput(msg)
    return successes, trials
