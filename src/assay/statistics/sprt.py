"""Wald's sequential probability ratio test of a match rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from assay.errors import InvalidInput
from assay.result import Record
from assay.statistics.inputs import as_count, as_fraction

__all__ = ["RatioTest", "RatioTestOutcome", "RatioTestPlan"]

_MOST_QUERIES = 1 << 18
_LEFT = 1e-10  # probability of still going on that no longer matters
_LARGEST = 700.0  # log ratio beyond which a p-value would underflow to zero


@dataclass(frozen=True)
class RatioTestOutcome(Record):
    """Where a run of the test ended.

    Parameters
    ----------
    decision
        ``"match"``: the true rate; ``"none"``: the null rate; ``"open"``: the answers ended
        between the limits.
    queries, matches
        Answers used, and matches among them.
    log_ratio
        Log likelihood ratio of the true to the null rate at the end.
    p_value
        One over the largest likelihood ratio on the way, at most 1. By Ville's inequality
        valid whenever one stops.
    """

    decision: Literal["match", "none", "open"]
    queries: int
    matches: int
    log_ratio: float
    p_value: float


@dataclass(frozen=True)
class RatioTestPlan(Record):
    """What the test does at one match rate, computed exactly.

    Parameters
    ----------
    mean_queries
        Expected number of answers until a decision.
    match_rate
        Probability of deciding for the true rate.
    """

    mean_queries: float
    match_rate: float


@dataclass(frozen=True)
class RatioTest:
    """Ask until the likelihood ratio of a stolen to an independent model is decisive.

    Among all tests with these error rates it needs the fewest queries on average, at the
    two rates that it was built for. It stops for either side: "none" saves queries on
    independent suspects.

    Parameters
    ----------
    null_rate, true_rate
        Match rate of an independent model (an upper bound of it) and of a stolen one, in
        (0, 1), the true one larger.
    alpha, beta
        Rates of false "match" and false "none", in (0, 0.5].
    limits
        ``"wald"``: ``(1 - beta) / alpha``, near the nominal rate, at most ``alpha / (1 - beta)``.
        ``"ville"``: ``1 / alpha``, never above alpha.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Wald, "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics
    1945, sections 3 and 4. Ville, "Etude critique de la notion de collectif", 1939.

    Examples
    --------
    >>> test = RatioTest(0.1, 0.9, alpha=0.05, beta=0.05)
    >>> outcome = test.run([True, True, False])
    >>> outcome.decision, outcome.queries
    ('match', 2)
    >>> plan = test.plan(0.9)
    >>> round(plan.mean_queries, 2), plan.match_rate > 0.95
    (2.44, True)
    """

    null_rate: float
    true_rate: float
    alpha: float = 0.01
    beta: float = 0.05
    limits: Literal["wald", "ville"] = "wald"

    def __post_init__(self) -> None:
        null, true = as_fraction(self.null_rate, "null_rate"), as_fraction(self.true_rate, "true_rate")
        if not null < true:
            msg = f"true_rate {true:g} must exceed null_rate {null:g}; otherwise there is nothing to find"
            raise InvalidInput(msg)
        for name in ("alpha", "beta"):
            if not 0.0 < getattr(self, name) <= 0.5:  # noqa: PLR2004 - beyond it a coin does better
                msg = f"{name} must lie in (0, 0.5], got {getattr(self, name)!r}"
                raise InvalidInput(msg)
        if self.limits not in ("wald", "ville"):
            msg = f'limits must be "wald" or "ville", got {self.limits!r}'
            raise InvalidInput(msg)

    @property
    def upper(self) -> float:
        """Log likelihood ratio that decides for the true rate."""
        return math.log((1.0 - self.beta if self.limits == "wald" else 1.0) / self.alpha)

    @property
    def lower(self) -> float:
        """Log likelihood ratio that decides for the null rate."""
        return math.log(self.beta / (1.0 - self.alpha))

    def run(self, outcomes: Iterable[bool]) -> RatioTestOutcome:
        """Go through answers in order until one of the limits is reached.

        Parameters
        ----------
        outcomes
            Whether each answer matched. Consumed no further than needed.
        """
        hit, miss = self._steps()
        queries = matches = 0
        ratio = largest = 0.0
        decision: Literal["match", "none", "open"] = "open"
        for outcome in outcomes:
            queries += 1
            matches += bool(outcome)
            ratio = matches * hit + (queries - matches) * miss
            largest = max(largest, ratio)
            if ratio >= self.upper:
                decision = "match"
                break
            if ratio <= self.lower:
                decision = "none"
                break
        return RatioTestOutcome(decision, queries, matches, ratio, math.exp(-min(largest, _LARGEST)))

    def plan(self, rate: float, most: int = _MOST_QUERIES) -> RatioTestPlan:
        """Return expected queries and decisions at a match rate, by following every possible count.

        Parameters
        ----------
        rate
            Match rate of the suspect, in [0, 1].
        most
            Queries after which the computation gives up.

        Raises
        ------
        InvalidInput
            If the rate is out of range, or the test may go on after ``most`` queries.
        """
        rate, most = as_fraction(rate, "rate", closed=True), as_count(most, "most")
        hit, miss = self._steps()
        # Between the limits only a window of counts is possible; `first` is the smallest of them.
        alive, first, mean, matched = np.ones(1), 0, 0.0, 0.0
        for queries in range(1, most + 1):
            mean += float(alive.sum())
            alive = np.append(alive, 0.0) * (1.0 - rate) + np.append(0.0, alive) * rate
            counts = first + np.arange(alive.size)
            ratio = counts * hit + (queries - counts) * miss
            matched += float(alive[ratio >= self.upper].sum())
            kept = np.flatnonzero((ratio > self.lower) & (ratio < self.upper) & (alive > 0.0))
            if not kept.size or alive[kept].sum() < _LEFT:
                return RatioTestPlan(mean, min(1.0, matched))
            first += int(kept[0])
            alive = alive[kept[0] : kept[-1] + 1]
        msg = f"rates {self.true_rate:g} and {self.null_rate:g} may need more than {most:,} queries"
        raise InvalidInput(msg)

    def _steps(self) -> tuple[float, float]:
        """Return what a match and a miss add to the log likelihood ratio."""
        return (
            math.log(self.true_rate / self.null_rate),
            math.log((1.0 - self.true_rate) / (1.0 - self.null_rate)),
        )
