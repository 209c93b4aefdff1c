import numpy as np
import pytest
from scipy.stats import binom, nct, t

from assay.errors import InvalidInput
from assay.statistics import (
    BettingProcess,
    detectable_effect,
    pairs_for_betting,
    permutation_p_values,
    power_of,
    rows_for_power,
    trigger_queries,
    welch_p_values,
)


def test_power_equals_the_noncentral_t():
    for n, d, alpha in ((5, 1.0, 0.05), (64, 0.5, 0.05), (300, 0.2, 0.01)):
        expected = nct.sf(t.isf(alpha, 2 * n - 2), 2 * n - 2, d * np.sqrt(n / 2))
        assert power_of(n, d, alpha) == pytest.approx(expected, abs=1e-8)
    assert power_of(5001, 0.05) == pytest.approx(power_of(5000, 0.05), abs=1e-3)


def test_no_effect_has_the_power_of_the_level():
    assert power_of(50, 0.0, 0.03) == pytest.approx(0.03)


def test_simulation_confirms_the_plan():
    plan = rows_for_power(0.6, alpha=0.05, power=0.8)
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.6, 1, size=(3000, plan.private)), rng.normal(size=(3000, plan.control))
    assert np.mean(welch_p_values(x, y) <= 0.05) == pytest.approx(plan.power, abs=0.03)
    both = np.concatenate([x, y], axis=1)[:300]
    p = permutation_p_values(both, np.arange(plan.total) < plan.private, resamples=199)
    assert np.mean(p <= 0.05) == pytest.approx(plan.power, abs=0.08)


def test_smallest_number_of_rows():
    plan = rows_for_power(0.5)
    assert plan.power >= 0.95 > power_of(plan.private - 1, 0.5)
    # Two groups at alpha 0.01 and power 0.95 need 31.5 / d^2 rows each in the normal approximation.
    assert rows_for_power(0.1).private == pytest.approx(31.5 / 0.1**2, rel=0.01)
    uneven = rows_for_power(0.5, ratio=3.0)
    assert uneven.control == 3 * uneven.private
    assert uneven.private < plan.private < uneven.total
    assert rows_for_power(50.0).private >= 2


def test_detectable_effect_inverts_power():
    for n in (4, 50, 20_000):
        assert power_of(n, detectable_effect(n)) == pytest.approx(0.95, abs=1e-6)


def test_trigger_plan_is_smallest_and_exact():
    for true, null in ((0.9, 0.1), (0.3, 0.1), (0.15, 0.1), (1.0, 0.0)):
        plan = trigger_queries(true, null)
        assert plan.level <= 0.01
        assert plan.level == pytest.approx(binom.sf(plan.matches - 1, plan.queries, null))
        assert plan.power >= 0.95
        for n in range(max(1, plan.queries - 5), plan.queries):
            matches = next(k for k in range(n + 2) if binom.sf(k - 1, n, null) <= 0.01)
            assert binom.sf(matches - 1, n, true) < 0.95


def test_betting_pairs_follow_the_effect_and_the_process():
    assert pairs_for_betting(1.2) == pairs_for_betting(1.2)
    assert pairs_for_betting(1.2) < pairs_for_betting(1.2, quantile=0.9)
    assert pairs_for_betting(1.2) > pairs_for_betting(1.2, process=BettingProcess(alpha=0.1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: rows_for_power(0.0),
        lambda: rows_for_power(1e-9),
        lambda: rows_for_power(float("nan")),
        lambda: rows_for_power(0.5, alpha=0.5, power=0.4),
        lambda: rows_for_power(0.5, ratio=0.0),
        lambda: power_of(1, 0.5),
        lambda: power_of(10, float("inf")),
        lambda: detectable_effect(10, power=1.0),
        lambda: trigger_queries(0.1, 0.2),
        lambda: trigger_queries(0.100001, 0.1),
        lambda: pairs_for_betting(-1.0),
        lambda: pairs_for_betting(0.01, limit=300, repeats=20),
    ],
)
def test_bad_input(call):
    with pytest.raises(InvalidInput):
        call()
