import numpy as np
import pytest
from scipy.stats import ttest_ind

from assay.errors import InvalidInput
from assay.statistics import uniformity, welch_p_values, welch_test


def test_4300_tests_equal_a_scipy_loop():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(2, 500)) * np.array([[1.0], [2.5]]) + np.array([[0.3], [0.0]])
    for m in range(2, 45):
        rows = np.array([rng.choice(500, size=m, replace=False) for _ in range(100)])
        x, y = pool[0][rows], pool[1][rows]
        ours = welch_p_values(x, y)
        theirs = [
            ttest_ind(a, b, equal_var=False, alternative="greater").pvalue for a, b in zip(x, y, strict=True)
        ]
        assert np.max(np.abs(ours - theirs)) < 1e-10


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("scale", [1e-120, 1.0, 1e120])
def test_directions_and_scales(alternative, scale):
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.2, 1, size=(20, 7)), rng.normal(size=(20, 13))
    theirs = ttest_ind(x, y, axis=1, equal_var=False, alternative=alternative).pvalue
    assert np.max(np.abs(welch_p_values(x * scale, y * scale, alternative) - theirs)) < 1e-10


def test_uniform_under_normal_null_with_unequal_variances():
    rng = np.random.default_rng(2)
    p = welch_p_values(rng.normal(0, 3, size=(4000, 25)), rng.normal(0, 1, size=(4000, 40)))
    assert uniformity(p).p_value > 1e-3
    assert uniformity(p, "two-sided").p_value > 1e-3


def test_degenerate_cells_have_p_one_and_leave_the_others_alone():
    x = np.array([[0.1, 0.1, 0.1], [np.nan, 1, 2], [np.inf, 1, 2], [5, 6, 7]])
    y = np.array([[0.7, 0.7, 0.7], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    p = welch_p_values(x, y)
    assert p[:3].tolist() == [1.0, 1.0, 1.0]
    assert p[3] < 0.01
    assert welch_p_values(np.ones((5, 1)), np.ones((5, 9))).tolist() == [1.0] * 5


def test_far_tail_is_small_but_not_zero():
    rng = np.random.default_rng(0)
    assert 0.0 < float(welch_p_values(rng.normal(1e6, 1, 500), rng.normal(size=500))) < 1e-300


def test_broadcasting():
    rng = np.random.default_rng(3)
    p = welch_p_values(rng.normal(size=(4, 1, 9)), rng.normal(size=(6, 8)))
    assert p.shape == (4, 6)


def test_result_carries_effect_and_reason():
    rng = np.random.default_rng(4)
    x, y = rng.normal(1, 1, size=50), rng.normal(size=60)
    result = welch_test(x, y)
    assert result.p_value == pytest.approx(ttest_ind(x, y, equal_var=False, alternative="greater").pvalue)
    assert result.effect.low > 0
    assert not result.exact
    for bad in ([1.0], [np.nan, 1.0], [3.0, 3.0]):
        degenerate = welch_test(bad, [3.0, 3.0])
        assert degenerate.p_value == 1.0
        assert degenerate.reason
    flat = welch_test([2.0, 2.0], [1.0, 1.0])
    assert (flat.p_value, flat.reason) == (1.0, "neither group varies")


def test_bad_input():
    with pytest.raises(InvalidInput, match="scalar"):
        welch_p_values(1.0, [1.0, 2.0])
    with pytest.raises(InvalidInput, match="broadcast"):
        welch_p_values(np.ones((2, 4)), np.ones((3, 4)))
    with pytest.raises(InvalidInput, match="alternative"):
        welch_p_values([1.0, 2.0], [1.0, 2.0], "up")
