import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from assay.errors import InvalidInput
from assay.statistics import cohen_d, mean_difference

ROWS = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


def test_welch_interval_equals_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 3, size=12), rng.normal(size=40)
    ours = mean_difference(x, y, 0.9)
    theirs = ttest_ind(x, y, equal_var=False).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("true_d", [0.0, 0.4, 1.2])
def test_intervals_cover(true_d):
    rng = np.random.default_rng(1)
    d = m = 0
    for _ in range(1000):
        x, y = rng.normal(true_d, 1, size=30), rng.normal(size=45)
        inside_d, inside_m = cohen_d(x, y), mean_difference(x, y)
        d += inside_d.low <= true_d <= inside_d.high
        m += inside_m.low <= true_d <= inside_m.high
    assert d / 1000 == pytest.approx(0.95, abs=0.025)
    assert m / 1000 == pytest.approx(0.95, abs=0.025)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_swapping_mirrors(x, y):
    for effect in (cohen_d, mean_difference):
        there, back = effect(x, y), effect(y, x)
        assert there.value == pytest.approx(-back.value)
        assert there.low == pytest.approx(-back.high)
        assert there.low <= there.value <= there.high


def test_scale_free():
    x, y = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 5.0])
    assert cohen_d(10 * x + 3, 10 * y + 3).value == pytest.approx(cohen_d(x, y).value)
    assert mean_difference(10 * x, 10 * y).value == pytest.approx(10 * mean_difference(x, y).value)


@pytest.mark.parametrize("x", [[1.0], [], [np.nan, 1.0], [np.inf, 1.0]])
def test_nothing_is_known_of_degenerate_groups(x):
    for effect in (cohen_d, mean_difference):
        found = effect(x, [0.0, 1.0])
        assert (found.value, found.low, found.high) == (0.0, -math.inf, math.inf)
        assert type(found).from_json(found.to_json()) == found


def test_equal_scores():
    assert mean_difference([1.0, 1.0], [1.0, 1.0]).high == 0.0
    assert cohen_d([1.0, 1.0], [1.0, 1.0]).high == math.inf
    assert cohen_d([2.0, 2.0], [1.0, 1.0]).high == math.inf
    assert mean_difference([2.0, 2.0], [1.0, 1.0]).value == 1.0


def test_bad_input():
    with pytest.raises(InvalidInput, match="confidence"):
        cohen_d([1.0, 2.0], [1.0, 2.0], 95)
    with pytest.raises(InvalidInput, match="shape"):
        mean_difference([[1.0, 2.0]], [1.0, 2.0])
