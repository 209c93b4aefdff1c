import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import InvalidInput
from assay.statistics import BettingProcess, pair_indices, pair_rows, uniformity

METHODS = ("mixture", "adaptive")
PAIRS = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


def stops(log_wealth):
    hit = log_wealth >= math.log(100)
    return np.where(hit.any(axis=-1), hit.argmax(axis=-1) + 1, 10**9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["uniform", "binary"])
def test_null_runs_seldom_reach_one_hundred(method, kind):
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, size=(5000, 500))
    if kind == "binary":
        z = np.round(z)
    best = BettingProcess(method=method).log_wealth(z).max(axis=1)
    assert np.mean(best >= math.log(100)) <= 0.01
    assert uniformity(np.exp(-np.maximum(best, 0.0))).p_value > 1e-3


def test_a_clairvoyant_bet_would_break_the_level():
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, size=(2000, 500))
    bets = np.clip(np.cumsum(z, axis=1) / np.cumsum(z**2, axis=1), 0, 0.5)
    wealth = np.cumsum(np.log1p(bets * z), axis=1)
    assert np.mean(wealth.max(axis=1) >= math.log(100)) > 0.02


@pytest.mark.parametrize("method", METHODS)
def test_wealth_keeps_its_mean_under_the_null(method):
    z = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=(40_000, 12))
    wealth = np.exp(BettingProcess(method=method).log_wealth(z))
    error = wealth.std(axis=0) / np.sqrt(len(z))
    assert np.all(np.abs(wealth.mean(axis=0) - 1.0) < 4.5 * error)


@pytest.mark.parametrize(
    ("shift", "length", "method", "limit"),
    [
        (0.2, 800, "mixture", 92),
        (0.2, 800, "adaptive", 100),
        (0.1, 2500, "mixture", 360),
        (0.1, 2500, "adaptive", 385),
    ],
)
def test_shifted_pairs_stop(shift, length, method, limit):
    z = np.clip(np.random.default_rng(2).uniform(-1, 1, size=(400, length)) + shift, -1, 1)
    found = stops(BettingProcess(method=method).log_wealth(z))
    assert found.max() <= length
    assert np.median(found) <= limit


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=40)
@given(z=PAIRS, cut=st.integers(0, 40))
def test_batches_follow_the_same_path(method, z, cut):
    process = BettingProcess(alpha=0.2, method=method)
    whole = process.run(z)
    state = process.start().update(z[:cut]).update(z[cut:])
    singles = process.start()
    for value in z:
        singles.update(value)
    assert state.result().log_wealth == pytest.approx(whole.log_wealth, abs=1e-12)
    assert singles.result().log_wealth == pytest.approx(whole.log_wealth, abs=1e-12)
    assert singles.pairs == len(z)
    assert process.log_wealth([z, z])[1] == pytest.approx(whole.log_wealth, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_neither_help_nor_hurt(method):
    z = np.random.default_rng(3).choice([-1.0, 1.0, 1.0], size=60)
    padded = np.zeros(600)
    padded[::10] = z
    process = BettingProcess(method=method)
    assert process.log_wealth(padded)[::10] == pytest.approx(process.log_wealth(z), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_bets_know_only_the_past(method):
    rng = np.random.default_rng(4)
    z = rng.uniform(-1, 1, size=30)
    changed = z.copy()
    changed[20:] = -z[20:]
    process = BettingProcess(method=method)
    assert np.array_equal(process.log_wealth(z)[:20], process.log_wealth(changed)[:20])


def test_results_agree_with_the_path():
    result = BettingProcess(alpha=0.05).run(np.full(30, 0.9))
    assert result.wealth[result.stop - 1] >= 20 > result.wealth[result.stop - 2]
    assert result.e_value == pytest.approx(result.wealth[-1])
    assert result.p_value == pytest.approx(1 / result.wealth.max())
    assert type(result).from_json(result.to_json()) == result


def test_losses_and_silence_are_inconclusive():
    losing = BettingProcess().run(np.full(50, -0.5))
    assert (losing.p_value, losing.stop) == (1.0, None)
    assert losing.e_value < 1
    silent = BettingProcess().run([])
    assert (silent.p_value, silent.e_value, silent.stop) == (1.0, 1.0, None)


def test_very_long_wins_stay_finite():
    result = BettingProcess().run(np.ones(5000))
    assert math.isfinite(result.e_value)
    assert 0 < result.p_value < 1e-300


def test_stopped_state_stays_stopped():
    state = BettingProcess(alpha=0.5).start().update(np.ones(10))
    assert state.stopped
    first = state.result().stop
    assert state.update(np.full(100, -1.0)).result().stop == first
    assert state.result().p_value <= 0.5


def test_pairing_is_random_complete_and_seeded():
    first, second = pair_indices(20, 50, rng=1)
    assert sorted(first.tolist()) == list(range(20))
    assert len(set(second.tolist())) == 20
    assert np.array_equal(pair_indices(20, 50, rng=1)[1], second)
    assert not np.array_equal(pair_indices(20, 50, rng=2)[1], second)
    x, y = np.linspace(-1, 1, 20), np.linspace(-0.5, 0.5, 50)
    assert pair_rows(x, y, rng=1) == pytest.approx((x[first] - y[second]) / 2)


def test_pairs_without_answers_count_against_the_claim():
    z = pair_rows([np.nan, 1.0, np.inf], [0.0, 0.0, 0.0])
    assert sorted(z.tolist()) == [-1.0, -1.0, 0.5]
    assert BettingProcess().run(pair_rows([np.nan] * 9, [0.0] * 9)).p_value == 1.0


def test_anytime_p_values_of_paired_rows_are_super_uniform():
    rng = np.random.default_rng(5)
    p = []
    for _ in range(300):
        # One skewed pool, split at random: the null that the pairing is meant for.
        pool = rng.beta(0.3, 2.0, size=80) * 2 - 1
        p.append(BettingProcess().run(pair_rows(pool[:40], pool[40:], rng)).p_value)
    assert uniformity(p).p_value > 1e-3


@pytest.mark.parametrize("z", [[1.1], [np.nan], ["a"], [[0.1]]])
def test_bad_pairs(z):
    with pytest.raises(InvalidInput):
        BettingProcess().run(z)


def test_bad_scores_and_options():
    with pytest.raises(InvalidInput, match="rescale"):
        pair_rows([2.0], [0.0])
    with pytest.raises(InvalidInput, match="scalar"):
        BettingProcess().log_wealth(0.5)
    for options in ({"alpha": 0.0}, {"max_bet": 1.0}, {"method": "kelly"}):
        with pytest.raises(InvalidInput):
            BettingProcess(**options)
