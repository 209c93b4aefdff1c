import numpy as np
import pytest
import torch

from assay.data import Dataset, load_data
from assay.errors import InvalidInput
from assay.gateway.calibrate.fit import choose_beta, choose_order, fit_likelihood_ratio
from assay.gateway.calibrate.profiles import PROFILES, honest_profiles, suspect_pools
from assay.gateway.policy import Pricing
from assay.gateway.pricing.cusum import increments
from assay.privacy import RenyiTable


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_the_order_is_the_one_with_the_best_contrast(rng):
    legit = -30.0 - rng.random(2000)  # nearly one value: no order makes a lottery of it
    suspects = {"a": -rng.gamma(1.0, 5.0, 2000), "b": -rng.gamma(2.0, 10.0, 2000)}
    order, ratios = choose_order(legit, suspects, 2.0)
    merit = {a: np.log(list(found.values())).mean() for a, found in ratios.items()}
    assert merit[order] == max(merit.values())
    table = RenyiTable(2.0, order)
    assert ratios[order]["a"] == pytest.approx(table(suspects["a"]).mean() / table(legit).mean())


def test_a_price_that_few_honest_queries_carry_is_a_lottery():
    # At small orders one query in fifty carries everything; at order 32 all are alike.
    legit = np.concatenate([np.full(980, -157.0), np.full(20, -0.7)])
    suspects = {"a": np.concatenate([np.full(500, -60.0), np.full(500, -0.7)])}
    _, ratios = choose_order(legit, suspects, 2.0)
    assert ratios[2.0]["a"] > 20
    order, _ = choose_order(legit, suspects, 2.0, candidates=(2.0, 16.0))
    even = RenyiTable(2.0, order)(legit)
    assert np.quantile(even, 0.95) >= even.mean() or max(ratios[16.0].values()) < 2


def test_the_order_weighs_what_dear_honest_users_would_pay():
    legit, suspects = np.full(100, -60.0), {"s": np.full(100, -8.0)}
    honest = {"harder": np.full(100, -12.0)}
    plain, ratios = choose_order(legit, suspects, 4.0)
    weighed, _ = choose_order(legit, suspects, 4.0, honest=honest)
    dearest = {a: float(RenyiTable(4.0, a)(-12.0) / RenyiTable(4.0, a)(-60.0)) for a in ratios}
    gain = {a: found["s"] / dearest[a] for a, found in ratios.items() if found["s"] >= 2}
    assert gain[weighed] == pytest.approx(max(gain.values()))
    assert gain[plain] <= gain[weighed]


@pytest.mark.parametrize(("legit", "suspects"), [([], {"a": [-1.0]}), ([-1.0], {}), ([-1.0], {"a": []})])
def test_nothing_to_compare_is_refused(legit, suspects):
    pools = {k: np.asarray(v, dtype=float) for k, v in suspects.items()}
    with pytest.raises(InvalidInput):
        choose_order(np.asarray(legit, dtype=float), pools, 2.0)
    with pytest.raises(InvalidInput):
        fit_likelihood_ratio(np.asarray(legit, dtype=float), pools)


def test_beta_is_no_larger_than_it_must_be():
    for ratios in ({"a": 5.0}, {"a": 8.0, "b": 4.1}, {"a": 2.0}):
        beta = choose_beta(ratios, goal=3.0, share=0.9)
        reached = [(1 + beta * r) / (1 + beta) >= min(3.0, 0.9 * r) for r in ratios.values()]
        assert all(reached) or beta == 16.0
    assert choose_beta({"a": 50.0}) < choose_beta({"a": 4.3})
    assert choose_beta({"harmless": 0.5}) == 1.0  # a pool that is cheaper than traffic decides nothing


def test_likelihood_ratios_are_those_of_the_samples(rng):
    legit, suspect = -rng.exponential(20.0, 200_000), -rng.exponential(5.0, 200_000)
    fitted = fit_likelihood_ratio(legit, {"s": suspect})
    assert len(fitted.values) == 32
    assert len(fitted.edges) == 31
    assert np.all(np.diff(fitted.edges) > 0)
    assert np.all(np.diff(fitted.values) >= 0)
    at = np.array([-0.5, -5.0, -20.0])
    exact = np.log(20 / 5) - at * (1 / 20 - 1 / 5)  # log of the ratio of two exponential densities
    assert fitted(at) == pytest.approx(exact, abs=0.15)
    # What the gateway adds up is the same function.
    pricing = Pricing(llr_edges=fitted.edges, llr_values=fitted.values, up=50.0, down=50.0)
    assert np.array_equal(increments(pricing, suspect[:500]), fitted(suspect[:500]))


def test_unanimous_votes_and_small_samples_do_not_break_the_bins(rng):
    legit = np.where(rng.random(300) < 0.7, -157.8, -rng.exponential(20.0, 300))
    fitted = fit_likelihood_ratio(legit, {"s": np.full(7, -0.7)})
    assert len(fitted.values) == len(fitted.edges) + 1
    assert np.all(np.isfinite(fitted.values))
    assert not set(fitted.edges) & set(legit)
    alone = fit_likelihood_ratio(np.full(9, -3.0), {"s": np.full(9, -3.0)})
    assert alone.values == pytest.approx((0.0,))
    assert fitted.lowered(1.0)(legit) == pytest.approx(fitted(legit) - 1.0)


def test_pools_weigh_alike_whatever_their_size(rng):
    legit = -rng.exponential(20.0, 2000)
    near, far = -rng.exponential(5.0, 2000), -rng.exponential(30.0, 2000)
    both = fit_likelihood_ratio(legit, {"near": near, "far": far})
    more = fit_likelihood_ratio(legit, {"near": np.tile(near, 20), "far": far})
    assert float(np.mean(np.abs(both(legit) - more(legit)))) < 0.15


def test_no_signal_gives_no_evidence(rng):
    legit = -rng.exponential(20.0, 4000)
    fitted = fit_likelihood_ratio(legit[:2000], {"same": legit[2000:]})
    assert np.abs(fitted.values).max() < 0.35


def test_profiles_are_what_they_say():
    digits = load_data("digits", limit=400)
    confidence = torch.linspace(0.2, 0.99, 400)[
        torch.randperm(400, generator=torch.Generator().manual_seed(0))
    ]
    scores = torch.full((400, 10), 0.0)
    scores[torch.arange(400), digits.y] = confidence
    scores += (1 - scores.sum(1, keepdim=True)) / 10
    found = honest_profiles(digits, scores)
    assert list(found) == list(PROFILES)
    order = {row.numpy().tobytes(): float(c) for row, c in zip(digits.x, confidence, strict=True)}
    easier = [order[row.numpy().tobytes()] for row in found["easier"].x]
    harder = [order[row.numpy().tobytes()] for row in found["harder"].x]
    assert min(easier) >= max(harder)
    counts = torch.bincount(found["skewed"].y, minlength=10).sort(descending=True)[0]
    assert float(counts[:3].sum()) == pytest.approx(0.8 * len(found["skewed"]), abs=5)
    grain = (found["grainy"].x - digits.x).abs()
    assert 0 < float(grain.mean()) < 0.03
    assert torch.equal(found["blurred"].y, digits.y)
    assert not torch.equal(found["blurred"].x, digits.x)
    with pytest.raises(InvalidInput, match="need 40 trusted"):
        honest_profiles(digits.subset(range(20)), scores[:20])


def test_suspect_pools_take_foreign_inputs():
    digits = load_data("digits", limit=100)
    photos = Dataset(torch.rand(30, 3, 16, 16), torch.zeros(30, dtype=torch.int64), ("a", "b"))
    pools = suspect_pools(digits, {"photos": photos}, 50)
    assert len(pools) == 6
    assert pools["photos"].x.shape == (30, 1, 8, 8)
    assert all(len(p) == 50 for name, p in pools.items() if name != "photos")
    with pytest.raises(InvalidInput, match="synthesised"):
        suspect_pools(digits, {"noise": photos}, 50)
