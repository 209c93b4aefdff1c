import numpy as np
import pytest
from scipy.stats import bootstrap

from assay.errors import InvalidInput
from assay.statistics import bootstrap_mean


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_agrees_with_scipy(method):
    rows = np.random.default_rng(0).exponential(size=60)
    ours = bootstrap_mean(rows, resamples=40_000, method=method)
    theirs = bootstrap(
        (rows,), np.mean, n_resamples=40_000, method=method, vectorized=True, random_state=1
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours.method == f"bootstrap-{method}"


def test_covers_a_skewed_mean():
    rng = np.random.default_rng(1)
    inside = [
        i.low <= 1.0 <= i.high
        for i in (bootstrap_mean(rng.exponential(size=50), 0.9, 500, rng) for _ in range(400))
    ]
    assert 0.84 < np.mean(inside) < 0.94


def test_skewness_moves_the_bca_limits_up():
    rows = np.random.default_rng(2).exponential(size=40)
    bca, plain = bootstrap_mean(rows), bootstrap_mean(rows, method="percentile")
    assert bca.low > plain.low
    assert bca.high > plain.high


def test_equal_values_and_seeds():
    flat = bootstrap_mean([0.1] * 7)
    assert flat.low == flat.value == flat.high
    rows = [0.0, 1.0, 1.0, 3.0]
    assert bootstrap_mean(rows, rng=3) == bootstrap_mean(rows, rng=3)
    assert bootstrap_mean([0.0, 1.0], resamples=1).low <= 1.0


@pytest.mark.parametrize("rows", [[1.0], [], [np.nan, 1.0], [[1.0, 2.0]]])
def test_bad_rows(rows):
    with pytest.raises(InvalidInput):
        bootstrap_mean(rows)


def test_bad_options():
    with pytest.raises(InvalidInput, match="method"):
        bootstrap_mean([1.0, 2.0], method="basic")
    with pytest.raises(InvalidInput, match="resamples"):
        bootstrap_mean([1.0, 2.0], resamples=0)
