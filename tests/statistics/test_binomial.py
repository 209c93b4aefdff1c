import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from assay.errors import InvalidInput
from assay.statistics import binomial_test, clopper_pearson, upper_rate, wilson


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.93])
@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_level_is_exact_for_every_threshold(rate, alternative):
    n = 17
    p = np.array([binomial_test(k, n, rate, alternative).p_value for k in range(n + 1)])
    mass = binom.pmf(np.arange(n + 1), n, rate)
    for alpha in (0.01, 0.05, 0.2, 0.5, 0.9):
        assert mass[p <= alpha].sum() <= alpha + 1e-12
    assert (p > 0).all()


def test_tail_and_effect():
    result = binomial_test(8, 10, 0.5)
    assert result.p_value == pytest.approx(56 / 1024)
    assert result.effect.value == pytest.approx(0.3)
    assert result.effect.low < 0.0 < result.effect.high
    assert result.exact


def test_impossible_matches():
    assert binomial_test(1, 10, 0.0).p_value < 1e-300
    assert binomial_test(0, 10, 0.0).p_value == 1.0


def test_no_trials_is_inconclusive():
    result = binomial_test(0, 0, 0.5)
    assert (result.p_value, result.reason) == (1.0, "no trials")
    assert (clopper_pearson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert upper_rate(0, 0) == 1.0


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.77])
def test_clopper_pearson_covers(rate):
    n = 40
    mass = binom.pmf(np.arange(n + 1), n, rate)
    inside = [i.low <= rate <= i.high for i in (clopper_pearson(k, n, 0.9) for k in range(n + 1))]
    assert mass[inside].sum() >= 0.9
    above = [upper_rate(k, n, 0.9) >= rate for k in range(n + 1)]
    assert mass[above].sum() >= 0.9


def test_wilson_covers_on_average():
    n, rates = 50, np.linspace(0.02, 0.98, 97)
    intervals = [wilson(k, n) for k in range(n + 1)]
    covered = [binom.pmf(k, n, r) for r in rates for k, i in enumerate(intervals) if i.low <= r <= i.high]
    assert sum(covered) / rates.size == pytest.approx(0.95, abs=0.01)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_hold_the_estimate_and_mirror(counts):
    k, n = counts
    for interval in (clopper_pearson, wilson):
        here, mirrored = interval(k, n), interval(n - k, n)
        assert here.low <= here.value <= here.high
        assert here.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    assert upper_rate(k, n, 0.975) == pytest.approx(clopper_pearson(k, n, 0.95).high)


def test_rule_of_three():
    assert upper_rate(0, 300, 0.95) == pytest.approx(1 - 0.05 ** (1 / 300))


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (1.5, 2), (True, 2)])
def test_bad_counts(counts):
    for function in (clopper_pearson, wilson, upper_rate):
        with pytest.raises(InvalidInput):
            function(*counts)


def test_bad_rates():
    with pytest.raises(InvalidInput, match="null_rate"):
        binomial_test(1, 2, 1.5)
    with pytest.raises(InvalidInput, match="confidence"):
        clopper_pearson(1, 2, 0.0)
    with pytest.raises(InvalidInput, match="alternative"):
        binomial_test(1, 2, 0.5, "more")
