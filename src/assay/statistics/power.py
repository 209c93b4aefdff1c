"""How many rows, queries or pairs a verification needs before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from assay.errors import InvalidInput
from assay.result import Record
from assay.statistics.eprocess import BettingProcess
from assay.statistics.inputs import Rng, as_count, as_fraction

__all__ = [
    "PowerPlan",
    "TriggerPlan",
    "detectable_effect",
    "pairs_for_betting",
    "power_of",
    "rows_for_power",
    "trigger_queries",
]

_MOST_ROWS = 10**9
_MOST_TRIGGERS = 1 << 18
_LARGEST_EFFECT = 1e3
_BLOCK = 256


@dataclass(frozen=True)
class PowerPlan(Record):
    """Rows per group for a one-sided two-sample test.

    Parameters
    ----------
    private, control
        Rows of each group.
    effect
        Standardised mean difference that is to be found.
    alpha, power
        Level, and power reached with these rows.
    """

    private: int
    control: int
    effect: float
    alpha: float
    power: float

    @property
    def total(self) -> int:
        """Rows of both groups."""
        return self.private + self.control


@dataclass(frozen=True)
class TriggerPlan(Record):
    """Trigger queries for an exact binomial test.

    Parameters
    ----------
    queries
        Triggers to send.
    matches
        Matches among them that reject the null.
    level, power
        Exact probabilities of reaching ``matches`` at the null and at the true rate.
    """

    queries: int
    matches: int
    level: float
    power: float


def power_of(n: int, effect: float, alpha: float = 0.01, *, ratio: float = 1.0) -> float:
    """Power of the one-sided two-sample t-test (the permutation test comes close to it).

    Parameters
    ----------
    n
        Private rows, at least 2.
    effect
        Standardised mean difference.
    alpha
        Level in (0, 1).
    ratio
        Control rows per private row, above 0; control rows are rounded up, at least 2.

    Returns
    -------
    float
        In [0, 1], from the noncentral t distribution.

    Raises
    ------
    InvalidInput
        If an argument is out of range.

    References
    ----------
    Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2.

    Examples
    --------
    >>> round(power_of(64, 0.5, 0.05), 3)
    0.879
    """
    n, alpha = as_count(n, "n", least=2), as_fraction(alpha, "alpha")
    m = _control_rows(n, ratio)
    if not math.isfinite(effect):
        msg = f"effect must be finite, got {effect!r}"
        raise InvalidInput(msg)
    from scipy.special import nctdtr, ndtr, ndtri, stdtrit

    freedom = n + m - 2
    shift = effect * math.sqrt(n * m / (n + m))
    if freedom > 10_000:  # noqa: PLR2004 - from here normal and t agree to four digits
        return float(ndtr(shift + ndtri(alpha)))
    threshold = -float(stdtrit(freedom, alpha))
    return float(min(1.0, max(0.0, 1.0 - nctdtr(freedom, shift, threshold))))


def rows_for_power(effect: float, alpha: float = 0.01, power: float = 0.95, ratio: float = 1.0) -> PowerPlan:
    """Smallest number of rows that finds an effect.

    Parameters
    ----------
    effect
        Standardised mean difference, above 0.
    alpha, power
        In (0, 1), alpha < power.
    ratio
        Control rows per private row, above 0.

    Returns
    -------
    PowerPlan
        With the power actually reached.

    Raises
    ------
    InvalidInput
        If an argument is out of range, or a billion rows would not do.

    Examples
    --------
    >>> rows_for_power(0.5, alpha=0.05, power=0.8).private
    51
    """
    _reachable(alpha, power)
    if not effect > 0.0:
        msg = f"effect must be positive, got {effect!r}: no number of rows finds a difference of 0"
        raise InvalidInput(msg)
    high = 2
    while power_of(high, effect, alpha, ratio=ratio) < power:
        high *= 2
        if high > _MOST_ROWS:
            msg = f"an effect of {effect:g} needs more than {_MOST_ROWS:,} rows"
            raise InvalidInput(msg)
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        if power_of(middle, effect, alpha, ratio=ratio) < power:
            low = middle + 1
        else:
            high = middle
    reached = power_of(low, effect, alpha, ratio=ratio)
    return PowerPlan(low, _control_rows(low, ratio), float(effect), float(alpha), reached)


def detectable_effect(n: int, alpha: float = 0.01, power: float = 0.95, *, ratio: float = 1.0) -> float:
    """Smallest standardised mean difference that ``n`` private rows find.

    Parameters
    ----------
    n
        Private rows, at least 2.
    alpha, power
        In (0, 1), alpha < power.
    ratio
        Control rows per private row, above 0.

    Returns
    -------
    float
        Above 0.

    Raises
    ------
    InvalidInput
        If an argument is out of range, or no effect up to 1,000 is found.

    Examples
    --------
    >>> round(detectable_effect(51, alpha=0.05, power=0.8), 2)
    0.5
    """
    _reachable(alpha, power)
    high = 1.0
    while power_of(n, high, alpha, ratio=ratio) < power:
        high *= 2.0
        if high > _LARGEST_EFFECT:
            msg = f"{n} private rows reach power {power} at alpha {alpha} for no effect; use more rows"
            raise InvalidInput(msg)
    from scipy.optimize import brentq

    return float(brentq(lambda d: power_of(n, d, alpha, ratio=ratio) - power, 0.0, high, xtol=1e-9))


def trigger_queries(
    true_rate: float, null_rate: float, alpha: float = 0.01, power: float = 0.95
) -> TriggerPlan:
    """Smallest number of watermark triggers that tells two match rates apart.

    Exact binomial probabilities; because matches are whole numbers, a slightly larger
    number of triggers can have slightly less power.

    Parameters
    ----------
    true_rate, null_rate
        Match rates of a stolen and of an independent model, in [0, 1], the true one larger.
    alpha, power
        In (0, 1), alpha < power.

    Returns
    -------
    TriggerPlan
        Queries, the matches that reject, and the exact level and power.

    Raises
    ------
    InvalidInput
        If an argument is out of range, or 262,144 queries would not do.

    Examples
    --------
    >>> plan = trigger_queries(0.9, 0.1)
    >>> plan.queries, plan.matches
    (5, 3)
    """
    truth = as_fraction(true_rate, "true_rate", closed=True)
    null = as_fraction(null_rate, "null_rate", closed=True)
    _reachable(alpha, power)
    if truth <= null:
        msg = f"true_rate {truth:g} must exceed null_rate {null:g}; otherwise there is nothing to find"
        raise InvalidInput(msg)
    from scipy.stats import binom

    start = 1
    while start < _MOST_TRIGGERS:
        n = np.arange(start, 2 * start)
        matches = binom.isf(alpha, n, null).astype(np.int64) + 1
        reached = binom.sf(matches - 1, n, truth)
        enough = np.flatnonzero(reached >= power)
        if enough.size:
            first = int(enough[0])
            level = float(binom.sf(matches[first] - 1, n[first], null))
            return TriggerPlan(int(n[first]), int(matches[first]), level, float(reached[first]))
        start *= 2
    msg = f"rates {truth:g} and {null:g} need more than {_MOST_TRIGGERS:,} queries to be told apart"
    raise InvalidInput(msg)


def pairs_for_betting(
    effect: float,
    *,
    score_sd: float = 0.5,
    quantile: float = 0.5,
    process: BettingProcess | None = None,
    repeats: int = 200,
    limit: int = 20_000,
    rng: Rng = 0,
) -> int:
    """Pairs after which the betting process has stopped, by a small seeded simulation.

    Scores are drawn as clipped normals, so that paired differences have mean
    ``effect * score_sd / 2`` and standard deviation ``score_sd / sqrt(2)``.

    Parameters
    ----------
    effect
        Standardised mean difference of the scores, above 0.
    score_sd
        Standard deviation of the scores on their [-1, 1] scale, above 0.
    quantile
        Share of the runs that have stopped by then, in (0, 1): 0.5 gives the median.
    process
        Betting process; the default one if None.
    repeats
        Simulated runs.
    limit
        Pairs after which the simulation gives up.
    rng
        Seed or generator.

    Returns
    -------
    int
        Pairs; twice as many queries.

    Raises
    ------
    InvalidInput
        If an argument is out of range, or the limit is reached first.

    Examples
    --------
    >>> strong, weak = pairs_for_betting(1.5), pairs_for_betting(0.8)
    >>> 10 < strong < weak < 200
    True
    """
    if not (effect > 0.0 and score_sd > 0.0 and math.isfinite(effect * score_sd)):
        msg = f"effect and score_sd must be positive and finite, got {effect!r} and {score_sd!r}"
        raise InvalidInput(msg)
    share = as_fraction(quantile, "quantile")
    repeats, limit = as_count(repeats, "repeats"), as_count(limit, "limit")
    config = BettingProcess() if process is None else process
    generator = np.random.default_rng(rng)
    states = [config.start() for _ in range(repeats)]
    needed = math.ceil(share * repeats)
    for _ in range(0, limit, _BLOCK):
        for state in states:
            if not state.stopped:
                z = generator.normal(effect * score_sd / 2.0, score_sd / math.sqrt(2.0), size=_BLOCK)
                state.update(np.clip(z, -1.0, 1.0))
        stops = sorted(s for state in states if (s := state.result().stop) is not None)
        if len(stops) >= needed and stops[needed - 1] <= limit:
            return stops[needed - 1]
    msg = f"fewer than {share:.0%} of the runs stop within {limit:,} pairs at effect {effect:g}"
    raise InvalidInput(msg)


def _control_rows(n: int, ratio: float) -> int:
    if not 0.0 < ratio < math.inf:
        msg = f"ratio must be positive and finite, got {ratio!r}"
        raise InvalidInput(msg)
    # The small subtraction keeps 10 * 0.1 from becoming 2 rows.
    return max(2, math.ceil(n * ratio - 1e-9))


def _reachable(alpha: float, power: float) -> None:
    if as_fraction(alpha, "alpha") >= as_fraction(power, "power"):
        msg = f"power {power:g} must exceed alpha {alpha:g}"
        raise InvalidInput(msg)
