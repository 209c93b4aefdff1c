import numpy as np
import pytest
from scipy.stats import norm

from assay.errors import InvalidInput
from assay.statistics import group_sequential, spending, uniformity


def nested_p_values(repeats, shift=0.0):
    """One-sided normal tests after 20, 40, 60 and 80 rows of the same growing sample."""
    rows = np.random.default_rng(0).normal(shift, 1.0, size=(repeats, 80))
    looks = np.arange(20, 81, 20)
    return norm.sf(np.cumsum(rows, axis=1)[:, looks - 1] / np.sqrt(looks))


@pytest.mark.parametrize("kind", ["uniform", "geometric"])
def test_nested_looks_stay_super_uniform(kind):
    weights = spending(1.0, 4, kind)
    p = [group_sequential(row, weights) for row in nested_p_values(3000)]
    assert uniformity(p).p_value > 1e-3
    assert np.mean(np.array(p) <= 0.05) <= 0.05


def test_the_smallest_raw_p_value_would_not_be_valid():
    assert uniformity(nested_p_values(3000).min(axis=1)).p_value < 1e-6


def test_stopping_at_any_look_stays_valid():
    weights = spending(1.0, 4)
    p = [
        next((v for k in range(1, 5) if (v := group_sequential(row[:k], weights)) <= 0.05), 1.0)
        for row in nested_p_values(3000)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.05


def test_power_is_kept():
    weights = spending(1.0, 4)
    p = [group_sequential(row, weights) for row in nested_p_values(500, shift=0.5)]
    assert np.mean(np.array(p) <= 0.01) > 0.9


@pytest.mark.parametrize("kind", ["uniform", "geometric"])
@pytest.mark.parametrize("looks", [1, 2, 7, 30])
def test_spending_sums_to_alpha(kind, looks):
    shares = spending(0.01, looks, kind)
    assert shares.sum() == pytest.approx(0.01)
    assert shares.shape == (looks,)
    assert (shares > 0).all()


def test_geometric_ratio():
    shares = spending(0.07, 3, "geometric")
    assert shares == pytest.approx([0.01, 0.02, 0.04])


@pytest.mark.parametrize(
    "arguments", [(0.0, 3), (1.5, 3), (0.01, 0), (0.01, 3, "obrien"), (0.01, 5000, "geometric")]
)
def test_bad_spending(arguments):
    with pytest.raises(InvalidInput):
        spending(*arguments)


def test_bad_looks():
    with pytest.raises(InvalidInput, match="planned"):
        group_sequential([0.1, 0.1], [1.0])
    with pytest.raises(InvalidInput, match="sum"):
        group_sequential([0.1], [0.7, 0.7])
    with pytest.raises(InvalidInput, match="p-values"):
        group_sequential([np.nan], [1.0])
