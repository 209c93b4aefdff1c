"""Queries that each ownership test needs, and the published t-test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, ttest_ind

from assay.errors import InvalidInput
from assay.statistics import match_t_test, plan_ownership, t_test_queries, upper_rate

TABLE = [
    # stolen, independent, t-test, exact queries, exact matches
    (0.66, 0.01, 4, 3, 1),
    (0.42, 0.01, 7, 10, 2),
    (0.1874, 0.02, 20, 32, 3),
    (0.18, 0.10, 103, 202, 28),
    (0.10, 0.05, 151, 298, 22),
]


@pytest.mark.parametrize(("true", "null", "t_test", "queries", "matches"), TABLE)
def test_published_settings(true, null, t_test, queries, matches):
    plan = plan_ownership(true, null, alpha=0.05, power=0.95)
    assert (plan.t_test, plan.exact.queries, plan.exact.matches) == (t_test, queries, matches)
    assert plan.exact.level <= 0.05
    assert plan.exact.power >= 0.95
    assert plan.sprt_stolen < plan.exact.queries
    # One query fewer has not the power.
    fewer = np.arange(1, queries)
    needed = binom.isf(0.05, fewer, null) + 1
    assert (binom.sf(needed - 1, fewer, true) < 0.95).all()


def test_t_test_finds_about_half_at_its_number():
    for true, null, queries, *_ in TABLE[3:]:
        rng = np.random.default_rng(0)
        suspect, clean = rng.binomial(queries, true, 4000), rng.binomial(queries, null, 4000)
        p1, p0 = suspect / queries, clean / queries
        t = (p1 - p0) / np.sqrt((p1 * (1 - p1) + p0 * (1 - p0)) / (queries - 1))
        assert 0.4 < np.mean(t > 1.65) < 0.6


def test_t_test_agrees_with_scipy_and_with_the_formula():
    found = match_t_test(18, 50, 3, 60)
    answers = [np.arange(50) < 18, np.arange(60) < 3]
    expected = ttest_ind(*(a.astype(float) for a in answers), equal_var=False, alternative="greater")
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    p1, p0 = 18 / 50, 3 / 60
    t = (p1 - p0) / math.sqrt(p1 * (1 - p1) / 49 + p0 * (1 - p0) / 59)
    assert expected.statistic == pytest.approx(t)
    assert not found.exact


def test_no_variance_is_no_evidence():
    found = match_t_test(5, 5, 0, 5)
    assert found.p_value == 1.0
    assert found.reason


def test_rates_at_the_edge_have_no_sequential_plan():
    plan = plan_ownership(1.0, 0.0)
    assert (plan.t_test, plan.exact.queries, plan.sprt_stolen) == (2, 1, None)


def test_exact_numbers():
    assert binom.sf(17, 100, 0.1) == pytest.approx(0.0100073, abs=5e-8)
    assert binom.sf(4, 100, 0.01) == pytest.approx(0.0034323, abs=5e-8)
    assert binom.sf(5, 30, 0.05) == pytest.approx(0.0032825, abs=5e-8)
    assert upper_rate(0, 100) == pytest.approx(0.0295130, abs=5e-8)
    assert upper_rate(3, 100) == pytest.approx(0.0757107, abs=1e-7)


@pytest.mark.parametrize(
    "call",
    [
        lambda: t_test_queries(0.1, 0.2),
        lambda: t_test_queries(0.5, 0.1, alpha=0.7),
        lambda: t_test_queries(0.1001, 0.1),
        lambda: plan_ownership(0.1, 0.1),
        lambda: match_t_test(5, 4, 0, 4),
        lambda: match_t_test(0, 0, 0, 4),
    ],
)
def test_bad_values(call):
    with pytest.raises(InvalidInput):
        call()
