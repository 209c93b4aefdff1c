import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.extraction.exact.bisection import Brackets, bisect


def thresholds(t):
    return lambda x: (x[:, 0] > t).astype(np.int64)


def unit_pair(n=1):
    return Brackets(np.zeros((n, 1)), np.ones((n, 1)), np.zeros(n, dtype=int), np.ones(n, dtype=int))


@given(st.floats(0.001, 0.999), st.integers(1, 40), st.integers(1, 5))
def test_threshold_is_inside_a_bracket_of_the_promised_width(t, bits, fan_out):
    found = bisect(thresholds(t), unit_pair(), bits, fan_out=fan_out)
    near, far = found.near[0, 0], found.far[0, 0]
    assert near <= t <= far
    assert far - near == pytest.approx(2.0**-bits, rel=1e-9)


@pytest.mark.parametrize(
    ("bits", "fan_out", "rounds", "rows"), [(12, 1, 12, 12), (12, 3, 4, 28), (7, 4, 2, 22)]
)
def test_rounds_and_queries_of_wide_searches(bits, fan_out, rounds, rows):
    calls = []

    def labels(x):
        calls.append(len(x))
        return thresholds(0.3)(x)

    bisect(labels, unit_pair(), bits, fan_out=fan_out)
    assert (len(calls), sum(calls)) == (rounds, rows)


def test_a_third_class_on_the_way_is_reported():
    def labels(x):
        return np.digitize(x[:, 0], [0.25, 0.5])

    ends = Brackets(np.zeros((1, 1)), np.ones((1, 1)), np.array([0]), np.array([2]))
    found = bisect(labels, ends, 30)
    assert found.facets.tolist() in ([[0, 1]], [[0, 2]])
    assert labels(found.near)[0] == found.near_labels[0]
    assert labels(found.far)[0] == found.far_labels[0]


def test_nothing_to_search_asks_nothing():
    def labels(x):
        raise AssertionError

    assert len(bisect(labels, unit_pair(0), 10)) == 0
    found = bisect(labels, unit_pair(3), 0)
    assert found.far.tolist() == [[1.0]] * 3


@pytest.mark.parametrize(("bits", "fan_out"), [(-1, 1), (53, 1), (10, 0), (10, 9)])
def test_impossible_searches_are_refused(bits, fan_out):
    with pytest.raises(InvalidInput, match="bits must be"):
        bisect(thresholds(0.5), unit_pair(), bits, fan_out=fan_out)
