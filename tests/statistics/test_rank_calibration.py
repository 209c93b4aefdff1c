import numpy as np
import pytest
from scipy.stats import t

from assay.errors import InvalidInput
from assay.statistics import false_positive_rate, prediction_t_test, rank_p_value, uniformity


@pytest.mark.parametrize("kind", ["continuous", "coarse"])
@pytest.mark.parametrize("break_ties", [False, True])
def test_rank_is_super_uniform_for_exchangeable_values(kind, break_ties):
    rng = np.random.default_rng(0)
    values = rng.standard_cauchy(size=(2000, 20))
    if kind == "coarse":
        values = np.sign(values)
    p = np.array([rank_p_value(row[0], row[1:], rng if break_ties else None) for row in values])
    for alpha in (0.05, 0.1, 0.5):
        assert np.mean(p <= alpha + 1e-12) <= alpha + 3.5 * np.sqrt(alpha * (1 - alpha) / 2000)
    if kind == "continuous" or break_ties:
        # Exact on the grid of twentieths.
        assert np.mean(p <= 0.25 + 1e-12) == pytest.approx(0.25, abs=0.035)
    else:
        assert np.mean(p <= 0.25 + 1e-12) < 0.02


def test_rank_counts():
    assert rank_p_value(10.0, np.zeros(99)) == 0.01
    assert rank_p_value(0.0, [1.0, 2.0]) == 1.0
    assert rank_p_value(1.0, [1.0, 0.0]) == 2 / 3
    assert rank_p_value(1.0, []) == 1.0


def test_non_finite_values_count_against():
    assert rank_p_value(np.nan, [0.0] * 99) == 1.0
    assert rank_p_value(np.inf, [0.0] * 99) == 1.0
    assert rank_p_value(5.0, [np.nan, 0.0, np.inf]) == 0.75


def test_prediction_t_is_uniform_for_normal_values():
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 2.0, size=(4000, 6))
    p = [prediction_t_test(row[0], row[1:]).p_value for row in values]
    assert uniformity(p).p_value > 1e-3
    assert uniformity(p, "two-sided").p_value > 1e-3


def test_forgetting_the_prediction_term_would_not_be_valid():
    values = np.random.default_rng(1).normal(size=(4000, 6))
    z = (values[:, 0] - values[:, 1:].mean(axis=1)) / values[:, 1:].std(axis=1, ddof=1)
    assert uniformity(t.sf(z, 4)).p_value < 1e-3


def test_prediction_t_is_labelled_parametric():
    result = prediction_t_test(3.0, [0.0, 1.0, 2.0])
    assert "parametric" in result.test
    assert not result.exact
    assert result.statistic == pytest.approx(2.0 / np.sqrt(4 / 3))


@pytest.mark.parametrize("null", [[1.0], [], [1.0, 1.0], [np.nan, 1.0]])
def test_prediction_t_degenerate(null):
    result = prediction_t_test(3.0, null)
    assert result.p_value == 1.0
    assert result.reason


def test_false_positive_rate_interval():
    interval = false_positive_rate(2, 100)
    assert interval.value == 0.02
    assert interval.low < 0.02 < interval.high
    assert interval.method == "clopper-pearson"


def test_uniformity_sees_small_and_forgives_large():
    rng = np.random.default_rng(2)
    u = rng.random(500)
    assert uniformity(u).p_value > 1e-3
    assert uniformity(u**1.5).p_value < 1e-3
    assert uniformity(np.sqrt(u)).p_value > 0.5
    assert uniformity(np.sqrt(u), "two-sided").p_value < 1e-3


def test_uniformity_is_itself_uniform():
    rng = np.random.default_rng(3)
    for alternative in ("too-small", "two-sided"):
        p = [uniformity(rng.random(40), alternative).p_value for _ in range(400)]
        assert uniformity(p, "two-sided").p_value > 1e-3


def test_bad_input():
    with pytest.raises(InvalidInput):
        rank_p_value(1.0, [[1.0]])
    with pytest.raises(InvalidInput):
        uniformity([1.2])
    with pytest.raises(InvalidInput):
        uniformity([])
    with pytest.raises(InvalidInput, match="alternative"):
        uniformity([0.5], "large")
