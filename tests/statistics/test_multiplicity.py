import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.statistics import benjamini_hochberg, holm

P = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_known_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])


@settings(deadline=None)
@given(P, st.randoms())
def test_between_raw_and_bonferroni_in_order_and_equivariant(p, random):
    p = np.array(p)
    bonferroni = np.minimum(1.0, p * p.size)
    order = list(range(p.size))
    random.shuffle(order)
    for adjust in (holm, benjamini_hochberg):
        adjusted = adjust(p)
        assert np.all(adjusted >= p - 1e-15)
        assert np.all(adjusted <= bonferroni + 1e-12)
        assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-15)
        assert adjust(p[order]) == pytest.approx(adjusted[order])
    assert np.all(benjamini_hochberg(p) <= holm(p) + 1e-12)


def test_family_wise_error_under_the_null_with_dependence():
    rng = np.random.default_rng(0)
    u = rng.random((3000, 8))
    u[:1500, 4:] = 1.0 - u[:1500, :4]
    smallest = np.array([holm(row).min() for row in u])
    assert np.mean(smallest <= 0.05) <= 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 3000)
    assert np.mean(u.min(axis=1) <= 0.05) > 0.2


def test_false_discovery_rate():
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(800):
        p = np.concatenate([rng.random(15), rng.random(5) * 1e-3])
        rejected = benjamini_hochberg(p) <= 0.1
        shares.append(rejected[:15].sum() / max(1, rejected.sum()))
    assert np.mean(shares) <= 0.1
    assert np.mean(shares) > 0.05


@pytest.mark.parametrize("p", [[], [1.5], [np.nan]])
def test_bad_p_values(p):
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(InvalidInput):
            adjust(p)
