"""Every test of private against control rows keeps its promises, and the suite notices those that do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from assay.registry import registered
from assay.result import TestResult
from assay.statistics import permutation_test, welch_test
from assay.testing import check_test

ENTRIES = {e.name: e.target for e in registered("test") if e.target.__module__.startswith("assay.")}
TESTS = {"permutation_test": permutation_test, "welch_test": welch_test} | ENTRIES


@pytest.mark.parametrize("name", TESTS)
def test_contract(name):
    check_test(TESTS[name])


def honest(private, control):
    return welch_test(private, control)


def anti_conservative(private, control):
    found = welch_test(private, control)
    return replace(found, p_value=found.p_value**2 if found.p_value < 1 else 1.0)


def squared_exact(private, control, rng=0):
    found = permutation_test(private, control, resamples=199, rng=rng)
    return found if found.reason else replace(found, p_value=found.p_value**2)


def ties_for_the_claim(private, control, rng=0):
    found = permutation_test(private, control, resamples=99, rng=rng)
    if found.reason:
        return found
    pool, generator = np.concatenate([private, control]), np.random.default_rng(rng)
    sums = np.array([generator.permutation(pool)[: len(private)].sum() for _ in range(199)])
    return replace(found, p_value=(1 + int((sums > private.sum() + 1e-9).sum())) / 200)


def backwards(private, control):
    return welch_test(control, private)


def two_sided_magnet(private, control):
    return welch_test(private, control, "two-sided")


def zero(private, control):
    return replace(welch_test(private, control), p_value=0.0)


def silent_on_nan(private, control):
    return welch_test(np.nan_to_num(private), np.nan_to_num(control))


def no_reason(private, control):
    return replace(welch_test(private, control), reason="")


def modifies(private, control):
    private.sort()
    return welch_test(private, control)


def moody(private, control, rng=np.random.default_rng(0)):  # noqa: B008 - the shared state is the fault
    del rng
    return replace(welch_test(private, control), statistic=np.random.default_rng().random())


def no_result(private, control):
    return welch_test(private, control).p_value


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (anti_conservative, "normal null cases"),
        (squared_exact, "says it is exact"),
        (ties_for_the_claim, "randomly split tied scores"),
        (backwards, "give only p"),
        (two_sided_magnet, "below control ones count"),
        (zero, "in \\(0, 1\\]"),
        (silent_on_nan, "NaN must give p = 1"),
        (no_reason, "must give a reason"),
        (modifies, "modified its inputs"),
        (moody, "two different results"),
        (no_result, "must return a TestResult"),
    ],
)
def test_broken_tests_are_caught(broken, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_test(broken)


def test_an_honest_test_of_ones_own_passes():
    check_test(honest)
    assert isinstance(honest(np.arange(4.0), np.arange(4.0)), TestResult)
