import numpy as np
import pytest

from assay.errors import InvalidInput
from assay.statistics.coin_betting import CoinBetting


def run(scores, coin, totals=None, strata=None):
    process = CoinBetting().start(totals or [(len(coin), int(coin.sum()))])
    process.update(scores, coin, strata)
    return process


@pytest.mark.parametrize("law", ["normal", "binary", "skewed", "constant", "heavy"])
def test_wealth_rarely_reaches_one_over_alpha_when_scores_do_not_know_the_coin(law):
    rng = np.random.default_rng(1)
    hits = {0.05: 0, 0.01: 0}
    repeats = 600
    for _ in range(repeats):
        coin = rng.permutation(120) < 60
        scores = {
            "normal": rng.normal(size=120),
            "binary": (rng.random(120) < 0.8) * np.linspace(3, 0.1, 120),
            "skewed": rng.exponential(size=120) ** 3,
            "constant": np.ones(120),
            "heavy": rng.standard_cauchy(size=120),
        }[law]
        p = run(scores, coin).p_value
        for alpha in hits:
            hits[alpha] += p <= alpha
    for alpha, count in hits.items():
        # Ville: at most alpha; three standard deviations of slack for the simulation.
        assert count / repeats <= alpha + 3 * (alpha / repeats) ** 0.5


def test_expected_wealth_is_one_under_the_null():
    rng = np.random.default_rng(2)
    wealth = []
    for _ in range(4000):
        coin = rng.permutation(12) < 5
        wealth.append(np.exp(run(rng.normal(size=12), coin).log_wealth))
    assert np.mean(wealth) == pytest.approx(1, abs=5 * np.std(wealth) / np.sqrt(len(wealth)))


def test_expected_wealth_is_one_over_all_splits_exactly():
    # Enumerate every split of 6 rows with 3 private: a martingale has mean exactly 1.
    from itertools import combinations

    scores = np.array([0.3, -1.0, 2.0, 0.0, 5.0, -0.2])
    total = []
    for chosen in combinations(range(6), 3):
        coin = np.isin(np.arange(6), chosen)
        total.append(np.exp(run(scores, coin).log_wealth))
    assert np.mean(total) == pytest.approx(1, abs=1e-12)


def test_strata_are_bet_on_at_their_own_odds():
    from itertools import product

    scores, strata = np.array([1.0, 2.0, -1.0, 0.5]), np.array([0, 1, 0, 1])
    total = []
    for first, second in product([0, 2], [1, 3]):
        coin = np.isin(np.arange(4), [first, second])
        total.append(np.exp(run(scores, coin, [(2, 1), (2, 1)], strata).log_wealth))
    assert np.mean(total) == pytest.approx(1, abs=1e-12)


def test_a_pool_larger_than_what_is_revealed_keeps_the_odds_of_the_pool():
    process = CoinBetting().start([(1000, 500)])
    process.update([1.0], [True])
    assert process.log_wealth == pytest.approx(
        np.log(np.mean([1 + min(f, 0.9) for f in CoinBetting().fractions]))
    )


def test_scores_that_know_the_coin_stop_early_and_batches_do_not_matter():
    rng = np.random.default_rng(3)
    coin = rng.permutation(400) < 200
    scores = 0.8 * coin + rng.normal(size=400)
    whole = run(scores, coin)
    stop = whole.stopped_at(0.01)
    assert stop is not None
    assert stop < 200
    parts = CoinBetting().start([(400, 200)])
    for i in range(0, 400, 7):
        parts.update(scores[i : i + 7], coin[i : i + 7])
    assert parts.path == whole.path


def test_anti_informative_scores_are_not_evidence_of_theft_by_default_scale():
    rng = np.random.default_rng(4)
    coin = rng.permutation(400) < 200
    assert run(-0.8 * coin + rng.normal(size=400), coin).p_value > 0.2


@pytest.mark.parametrize(
    ("scores", "coins", "totals"),
    [
        ([np.nan], [True], [(2, 1)]),
        ([1.0, 2.0], [True], [(2, 1)]),
        ([1.0, 2.0, 3.0], [True, False, True], [(2, 1)]),
        ([1.0, 1.0], [True, True], [(2, 1)]),
    ],
)
def test_impossible_rows_are_refused(scores, coins, totals):
    with pytest.raises(InvalidInput):
        CoinBetting().start(totals).update(scores, coins)


def test_bad_configuration_is_refused():
    with pytest.raises(InvalidInput):
        CoinBetting(fractions=())
    with pytest.raises(InvalidInput):
        CoinBetting(largest=1.0)
    with pytest.raises(InvalidInput):
        CoinBetting().start([(2, 3)])
