"""Wald's test of a match rate: limits, exact operating characteristics, level under the null."""

from __future__ import annotations

import math

import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.statistics import RatioTest, RatioTestOutcome

PUBLISHED = RatioTest(0.10, 0.18, alpha=0.05, beta=0.05)


def test_limits():
    assert PUBLISHED.upper == pytest.approx(math.log(0.95 / 0.05))
    assert PUBLISHED.lower == pytest.approx(math.log(0.05 / 0.95))
    assert RatioTest(0.1, 0.18, 0.05, 0.05, "ville").upper == pytest.approx(math.log(20))


def test_level_and_power_by_simulation():
    rng = np.random.default_rng(7)
    for rate, low, high in ((0.10, 0.0, 0.05), (0.18, 0.93, 1.0)):
        runs = [PUBLISHED.run(rng.random(3000) < rate) for _ in range(4000 if rate == 0.10 else 400)]
        share = np.mean([run.decision == "match" for run in runs])
        assert low <= share <= high
        assert not any(run.decision == "open" for run in runs)
        plan = PUBLISHED.plan(rate)
        assert share == pytest.approx(plan.match_rate, abs=4 * math.sqrt(0.05 / len(runs)))
        mean = np.mean([run.queries for run in runs])
        assert mean == pytest.approx(
            plan.mean_queries, abs=4 * np.std([run.queries for run in runs]) / math.sqrt(len(runs))
        )


def test_plan_of_one_step():
    # One answer decides: expected queries and decisions by hand.
    test = RatioTest(0.01, 0.99, alpha=0.05, beta=0.05)
    plan = test.plan(0.3)
    assert (plan.mean_queries, plan.match_rate) == pytest.approx((1.0, 0.3))


@pytest.mark.parametrize(
    ("true", "null", "mean"),
    [(0.66, 0.01, 2), (0.42, 0.01, 3), (0.1874, 0.02, 13), (0.18, 0.10, 97), (0.10, 0.05, 140)],
)
def test_mean_queries_if_stolen(true, null, mean):
    assert round(RatioTest(null, true, 0.05, 0.05).plan(true).mean_queries) == mean


def test_errors_of_both_kinds_stay_within_walds_bounds():
    for null, true in [(0.05, 0.3), (0.1, 0.15), (0.4, 0.9)]:
        wald, ville = (RatioTest(null, true, 0.02, 0.1, limits) for limits in ("wald", "ville"))
        assert wald.plan(null).match_rate <= 0.02 / 0.9
        assert ville.plan(null).match_rate <= 0.02
        assert 1 - wald.plan(true).match_rate <= 0.1 / 0.98


def test_anytime_p_value_is_valid():
    rng = np.random.default_rng(1)
    test = RatioTest(0.2, 0.5, 0.001, 0.01)
    p = np.array([test.run(rng.random(60) < 0.2).p_value for _ in range(2000)])
    for level in (0.01, 0.05, 0.2):
        assert np.mean(p <= level) <= level + 3 * math.sqrt(level / 2000)


def test_open_end_and_json():
    outcome = PUBLISHED.run([True])
    assert outcome.decision == "open"
    assert outcome.p_value == pytest.approx(0.10 / 0.18)
    assert RatioTestOutcome.from_json(outcome.to_json()) == outcome
    assert PUBLISHED.run([]).p_value == 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"null_rate": 0.5, "true_rate": 0.5},
        {"null_rate": 0.0, "true_rate": 0.5},
        {"null_rate": 0.1, "true_rate": 1.0},
        {"null_rate": 0.1, "true_rate": 0.5, "alpha": 0.6},
        {"null_rate": 0.1, "true_rate": 0.5, "beta": 0.0},
        {"null_rate": 0.1, "true_rate": 0.5, "limits": "none"},
    ],
)
def test_bad_values(options):
    with pytest.raises(InvalidInput):
        RatioTest(**options)


def test_endless_plan_is_refused():
    with pytest.raises(InvalidInput, match="more than 50 queries"):
        PUBLISHED.plan(0.14, most=50)
