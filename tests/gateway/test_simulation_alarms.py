import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.gateway.account import AccountState
from assay.gateway.policy import Policy, Pricing
from assay.gateway.pricing import AdditiveRule
from assay.gateway.pricing.cusum import walk
from assay.gateway.simulation import (
    Profile,
    alarm_interval,
    cheapest,
    detection_queries,
    drift,
    fit_accounts,
    fit_threshold,
    fit_unit,
    lower_ratios,
    play,
    standard_profiles,
    tilted,
)
from assay.gateway.simulation.alarms import excursion_peaks
from assay.gateway.simulation.play import released

COIN = Pricing(llr_edges=(-2.0,), llr_values=(-1.0, 1.0), threshold=4.5)
HONEST = Profile("honest", np.array([-9.0, -9.0, -9.0, -1.0]))


def gamblers_interval(up, level):
    """Mean steps between first visits of ``level`` from 0 in a walk of +1 (chance up) and -1."""
    odds = (1 - up) / up
    reaches = (odds - 1) / (odds**level - 1)
    cycle = 1 / up + 1 / (1 - 2 * up)
    return cycle / reaches


def test_the_interval_between_alarms_is_the_gamblers():
    found = alarm_interval(COIN, HONEST, queries=2_000_000)
    assert found == pytest.approx(gamblers_interval(0.25, 5), rel=0.05)


def test_the_fitted_threshold_is_the_smallest_that_is_rare_enough():
    fit = fit_threshold(COIN, [HONEST], target=5000.0, queries=2_000_000)
    level = round(fit.threshold) + 1
    assert gamblers_interval(0.25, level) >= 5000.0 * 0.95
    assert gamblers_interval(0.25, level - 1) < 5000.0 * 1.05
    assert fit.intervals["honest"] >= 5000.0


def test_beyond_the_simulated_stream_the_tail_is_extended():
    short = fit_threshold(COIN, [HONEST], target=100_000.0, queries=200_000).threshold
    long = fit_threshold(COIN, [HONEST], target=100_000.0, queries=4_000_000).threshold
    assert short == pytest.approx(long, abs=2.0)


def test_the_worst_profile_decides():
    harder = Profile("harder", np.array([-9.0, -9.0, -1.0]))
    alone = fit_threshold(COIN, [HONEST], target=1000.0, queries=400_000).threshold
    both = fit_threshold(COIN, [HONEST, harder], target=1000.0, queries=400_000)
    assert both.threshold > alone
    assert both.intervals["honest"] > 1000.0


def test_a_profile_that_drifts_upwards_has_no_threshold():
    with pytest.raises(InvalidInput, match="grows on the honest profile 'hard'"):
        fit_threshold(COIN, [Profile("hard", np.array([-1.0]))])


def test_no_alarm_is_an_infinite_interval():
    easy = Profile("easy", np.array([-9.0]))
    assert alarm_interval(COIN, easy, queries=1000) == math.inf
    assert fit_threshold(COIN, [easy], queries=1000).threshold == 1.0


@given(st.lists(st.integers(-24, 24), max_size=60))
def test_peaks_are_those_of_the_walk(eighths):
    # Multiples of 1/8 add without rounding; else a sum that just touches 0 may or may not count as two.
    steps = np.array(eighths, dtype=float) / 8.0
    peaks, current = [], 0.0
    for value in [*walk(Pricing(threshold=1000.0), steps).tolist(), 0.0]:
        if value > 0.0:
            current = max(current, value)
        elif current:
            peaks.append(current)
            current = 0.0
    assert excursion_peaks(steps).tolist() == peaks


def test_runs_of_hard_queries_raise_more_alarms_than_independent_ones():
    pool = -np.random.default_rng(0).gamma(2.0, 10.0, 500)
    cut = float(np.quantile(pool, 0.8))
    pricing = Pricing(llr_edges=(cut,), llr_values=(-1.0, 1.0), threshold=6.0)
    steady = alarm_interval(pricing, Profile("steady", pool), queries=1_000_000)
    bursty = alarm_interval(pricing, Profile("bursty", pool, burst=8.0), queries=1_000_000)
    assert bursty < steady / 5


def test_runs_keep_the_mean_cost():
    pool = -np.random.default_rng(0).gamma(2.0, 10.0, 500)
    drawn = Profile("bursty", pool, burst=8.0).draw(np.random.default_rng(1), 20, 20_000)
    assert drawn.mean() == pytest.approx(pool.mean(), rel=0.05)
    change = np.abs(np.diff(np.argsort(np.argsort(drawn[0])))).mean() / drawn.shape[1]
    assert change < 0.2  # independent draws change by a third of the ranks


def test_recordings_are_replayed_in_their_order():
    drawn = Profile("video", np.array([-3.0, -2.0, -1.0]), ordered=True).draw(np.random.default_rng(0), 8, 5)
    for row in drawn.tolist():
        assert row in (
            [-3.0, -2.0, -1.0, -3.0, -2.0],
            [-2.0, -1.0, -3.0, -2.0, -1.0],
            [-1.0, -3.0, -2.0, -1.0, -3.0],
        )
    assert len({tuple(row) for row in drawn.tolist()}) > 1


def test_tilting_shifts_the_mean_cost_exactly():
    rng = np.random.default_rng(0)
    pool, cost = -rng.gamma(2.0, 10.0, 300), rng.exponential(1.0, 300)
    for ratio in (0.5, 0.9, 1.0, 1.1, 2.0):
        assert tilted("t", pool, cost, ratio).weights @ cost == pytest.approx(ratio * cost.mean(), rel=1e-6)
    with pytest.raises(InvalidInput, match="no weights"):
        tilted("t", pool, cost, 100.0)


def test_ratios_are_lowered_until_hard_users_are_quiet_too():
    hard = Profile("hard", np.array([-1.0, -1.0, -9.0]))
    lowered = lower_ratios(COIN, [HONEST, hard], margin=0.2)
    assert drift(lowered, hard) == pytest.approx(-0.2, abs=1e-5)
    assert lower_ratios(lowered, [HONEST, hard], margin=0.2) == lowered
    with pytest.raises(InvalidInput, match="margin"):
        lower_ratios(COIN, [HONEST], margin=5.0)


def test_the_fit_prepays_the_dearest_pool_and_keeps_the_deposit_above_the_free_units():
    policy = fit_unit(Policy(pricing=Pricing(llr_edges=(-2.0,), llr_values=(-1.0, 1.5))), HONEST.log_q)
    fitted, fit = fit_accounts(policy, [HONEST], {"noise": [-0.7], "near": [-9.0, -0.7]}, queries=200_000)
    pricing = fitted.pricing
    assert pricing.reserve_units == pytest.approx(pricing.item_ceiling)
    assert pricing.debt_cap_units == pytest.approx(64 * pricing.reserve_units)
    assert pricing.deposit_units >= pricing.free_units
    assert pricing.threshold == fit.threshold
    assert detection_queries(pricing, [-0.7]) < 30
    assert detection_queries(pricing, [-9.0]) == math.inf
    with pytest.raises(InvalidInput, match="at least one of each"):
        fit_accounts(policy, [], {"noise": [-0.7]})


@given(st.lists(st.floats(-200.0, 0.0), min_size=1, max_size=50))
def test_the_vectorised_play_is_the_settlement(log_q):
    policy = Policy(pricing=COIN.model_copy(update={"deposit_release_queries": 20}))
    state, settlement = AdditiveRule(policy).settle(AccountState("a", deposited=128.0), log_q)
    played = play(policy, [log_q])
    np.testing.assert_allclose(played.units[0], settlement.units, rtol=1e-12)
    assert played.sums[0, -1] == pytest.approx(state.cusum)
    assert released(policy, played.sums)[0, -1] == pytest.approx(state.released)


def test_standard_profiles_shift_what_they_say():
    pool = -np.random.default_rng(0).gamma(2.0, 10.0, 400)
    cost = np.exp(pool / 10.0)
    profiles = standard_profiles(pool, cost)
    assert profiles["hard only"].log_q.min() >= profiles["easy only"].log_q.max()
    assert profiles["cost +10%"].weights @ cost == pytest.approx(1.1 * cost.mean())
    assert len(profiles) >= 5


@pytest.mark.parametrize(
    "make",
    [
        lambda: Profile("p", np.array([])),
        lambda: Profile("p", np.array([0.5])),
        lambda: Profile("p", np.array([np.nan])),
        lambda: Profile("p", np.array([-1.0]), burst=0.5),
        lambda: Profile("p", np.array([-1.0]), np.array([0.5, 0.5])),
        lambda: Profile("p", np.array([-1.0]), burst=2.0, ordered=True),
        lambda: cheapest([-1.0], 0.0),
    ],
)
def test_bad_profiles_are_refused(make):
    with pytest.raises(InvalidInput):
        make()
