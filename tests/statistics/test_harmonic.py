import numpy as np
import pytest
from scipy.stats import hmean

from assay.errors import InvalidInput
from assay.statistics import bonferroni_combine, harmonic_mean_aggregate, uniformity


def test_it_is_not_a_p_value():
    p = np.random.default_rng(0).random((20_000, 100))
    aggregate = harmonic_mean_aggregate(p)
    assert np.median(aggregate) == pytest.approx(0.158, abs=0.01)
    assert np.mean(aggregate < 0.05) == pytest.approx(0.078, abs=0.01)
    assert uniformity(aggregate).p_value < 1e-6
    # The same p-values, one at a time or combined by a valid rule.
    assert uniformity(p[:, 0]).p_value > 1e-3
    assert uniformity([bonferroni_combine(row) for row in p[:2000]]).p_value > 1e-3


def test_agrees_with_scipy_along_any_axis():
    p = np.random.default_rng(1).random((4, 5, 6))
    for axis in (0, 1, -1):
        assert harmonic_mean_aggregate(p, axis) == pytest.approx(hmean(p, axis=axis))
    assert harmonic_mean_aggregate([0.0, 1.0]) == 0.0
    assert "NOT a p-value" in harmonic_mean_aggregate.__doc__


def test_bad_p_values():
    with pytest.raises(InvalidInput):
        harmonic_mean_aggregate([2.0])
