"""Two match rates compared: the published t-test, and how many triggers each test needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from assay.errors import InvalidInput
from assay.result import Record, TestResult
from assay.statistics.inputs import as_count, as_fraction
from assay.statistics.power import TriggerPlan, trigger_queries
from assay.statistics.sprt import RatioTest
from assay.statistics.welch import welch_test

__all__ = ["OwnershipPlan", "match_t_test", "plan_ownership", "t_test_queries"]

_MOST_TRIGGERS = 1 << 18


@dataclass(frozen=True)
class OwnershipPlan(Record):
    """Trigger queries that three tests need to tell a stolen model from independent ones.

    Parameters
    ----------
    t_test
        Triggers at which the expected statistic of the two-sample t-test becomes
        significant, which is when it finds about half of the thefts.
    exact
        The exact binomial test with the wanted power.
    sprt_stolen, sprt_independent
        Mean queries of the sequential test if the suspect is stolen, and if it is not;
        None at rates of 0 and 1.
    """

    t_test: int
    exact: TriggerPlan
    sprt_stolen: float | None
    sprt_independent: float | None


def match_t_test(matches: int, triggers: int, clean_matches: int, clean_triggers: int) -> TestResult:
    """Two-sample t-test of a suspect's matches against those of one unmarked model.

    The test of the entangled-watermark paper, as a companion. It has no level worth the
    name: with few triggers 0/1 answers are far from normal, one model says little about
    others, and a rate of 0 or 1 on both sides leaves no variance.

    Parameters
    ----------
    matches, triggers
        Of the suspect.
    clean_matches, clean_triggers
        Of the unmarked model.

    Returns
    -------
    TestResult
        Statistic: difference of the rates. Answers without variance give ``p_value == 1``
        and a reason.

    Raises
    ------
    InvalidInput
        If a count is out of range.

    References
    ----------
    Jia, Choquette-Choo, Chandrasekaran and Papernot, "Entangled Watermarks as a Defense
    against Model Extraction", USENIX Security 2021 (ownership test).

    Examples
    --------
    >>> found = match_t_test(66, 100, 1, 100)
    >>> round(found.statistic, 2), found.p_value < 1e-20, found.exact
    (0.65, True, False)
    """
    suspect = _answers(matches, triggers)
    result = welch_test(suspect, _answers(clean_matches, clean_triggers))
    return replace(
        result,
        test="match-rate-t",
        null="suspect and unmarked model match equally often (normal means)",
        n={"suspect": triggers, "unmarked": clean_triggers},
    )


def t_test_queries(true_rate: float, null_rate: float, alpha: float = 0.05) -> int:
    """Triggers at which the expected statistic of the t-test becomes significant.

    About half of all thefts are found with so many: the statistic lies below its
    expectation as often as above.

    Parameters
    ----------
    true_rate, null_rate
        Match rates, in [0, 1], the true one larger.
    alpha
        Level in (0, 0.5].

    Returns
    -------
    int
        At least 2, asked of each of the two models.

    Raises
    ------
    InvalidInput
        If an argument is out of range, or 262,144 triggers would not do.

    Examples
    --------
    >>> [t_test_queries(*rates) for rates in ((0.66, 0.01), (0.42, 0.01), (0.18, 0.10))]
    [4, 7, 103]
    """
    true = as_fraction(true_rate, "true_rate", closed=True)
    null = as_fraction(null_rate, "null_rate", closed=True)
    if not true > null:
        msg = f"true_rate {true:g} must exceed null_rate {null:g}; otherwise there is nothing to find"
        raise InvalidInput(msg)
    if not 0.0 < alpha <= 0.5:  # noqa: PLR2004 - beyond it no difference is significant
        msg = f"alpha must lie in (0, 0.5], got {alpha!r}"
        raise InvalidInput(msg)
    spread = np.array([true * (1.0 - true), null * (1.0 - null)])
    if spread.sum() == 0.0:
        return 2  # the first two answers already differ without exception
    from scipy.special import stdtrit

    n = np.arange(2, _MOST_TRIGGERS)
    # Welch's degrees of freedom for two groups of n answers.
    freedom = (n - 1) * spread.sum() ** 2 / (spread**2).sum()
    expected = (true - null) * np.sqrt((n - 1) / spread.sum())
    enough = np.flatnonzero(expected >= -stdtrit(freedom, alpha))
    if not enough.size:
        msg = f"rates {true:g} and {null:g} need more than {_MOST_TRIGGERS:,} triggers to be told apart"
        raise InvalidInput(msg)
    return int(n[enough[0]])


def plan_ownership(
    true_rate: float, null_rate: float, alpha: float = 0.05, power: float = 0.95
) -> OwnershipPlan:
    """Compare what the t-test, the exact test and the sequential test need.

    Parameters
    ----------
    true_rate, null_rate
        Match rates of a stolen and of an independent model, in [0, 1], the true one larger.
    alpha, power
        In (0, 0.5] and (alpha, 1).

    Raises
    ------
    InvalidInput
        If an argument is out of range, or 262,144 queries would not do.

    Examples
    --------
    >>> plan = plan_ownership(0.1874, 0.02)
    >>> plan.t_test, plan.exact.queries, plan.exact.matches, round(plan.sprt_stolen)
    (20, 32, 3, 13)
    """
    exact = trigger_queries(true_rate, null_rate, alpha, power)
    t_test = t_test_queries(true_rate, null_rate, alpha)
    stolen = independent = None
    if null_rate > 0.0 and true_rate < 1.0:
        beta = min(0.5, 1.0 - power)
        test = RatioTest(null_rate, true_rate, alpha, beta)
        stolen, independent = test.plan(true_rate).mean_queries, test.plan(null_rate).mean_queries
    return OwnershipPlan(t_test, exact, stolen, independent)


def _answers(matches: int, triggers: int) -> np.ndarray:
    triggers = as_count(triggers, "triggers")
    matches = as_count(matches, "matches", least=0)
    if matches > triggers:
        msg = f"{matches} matches out of {triggers} triggers"
        raise InvalidInput(msg)
    return (np.arange(triggers) < matches).astype(np.float64)
