"""Cases U1 and U2: who pays what on real votes (digits, 50 teachers of 20 images, sigma 2).

Everything is fitted on one half of the traffic and of each pool, and judged on the other.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from assay.errors import InvalidInput
from assay.gateway.policy import Policy, Pricing
from assay.gateway.pricing.additive import item_units
from assay.gateway.simulation import (
    Profile,
    attack_cost,
    attack_costs,
    fit_accounts,
    fit_hashes_per_unit,
    fit_unit,
    likelihood_bound,
    overheads,
    standard_profiles,
)
from assay.privacy import RenyiTable, log_flip_probability

SIGMA, TEACHERS, SAMPLES, BETA = 2.0, 50, 20, 8.0
SHAPE = (-1, 8, 8)


def log_ratios(honest, suspects, bins=32):
    """Return edges and log likelihood ratios on quantile bins, smoothed and not falling."""
    pooled = np.concatenate([honest, *suspects])
    edges = np.unique(np.quantile(pooled, np.linspace(0.0, 1.0, bins + 1)[1:-1]))

    def share(x):
        counts = np.bincount(np.searchsorted(edges, x, side="right"), minlength=edges.size + 1)
        return (counts + 1.0) / (counts.sum() + counts.size)

    values = np.log(np.mean([share(x) for x in suspects], axis=0) / share(honest))
    return tuple(edges.tolist()), tuple(np.maximum.accumulate(values).tolist())


@pytest.fixture(scope="module")
def scores():
    """Log flip probabilities of honest and attack inputs: name -> [n], in random order."""
    rng = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    x, y = x[order] / 16.0, y[order]
    parts = [slice(SAMPLES * i, SAMPLES * (i + 1)) for i in range(TEACHERS)]
    teachers = [LogisticRegression(C=10.0, max_iter=200).fit(x[part], y[part]) for part in parts]
    weights = np.zeros((TEACHERS, 10, 64))
    bias = np.full((TEACHERS, 10), -np.inf)
    for teacher, w, b in zip(teachers, weights, bias, strict=True):
        w[teacher.classes_], b[teacher.classes_] = teacher.coef_, teacher.intercept_

    def log_q(images):
        winners = (np.einsum("tcd,nd->ntc", weights, images) + bias).argmax(axis=2)
        return log_flip_probability((winners[:, :, None] == np.arange(10)).sum(axis=1), SIGMA)

    honest, labels = x[TEACHERS * SAMPLES :], y[TEACHERS * SAMPLES :]
    n = len(honest)
    blurred = np.stack([gaussian_filter(image, 0.5) for image in honest.reshape(SHAPE)]).reshape(n, 64)
    inputs = {
        "honest": honest,
        "blurred": blurred,
        "grainy": np.clip(honest + 0.05 * rng.standard_normal(honest.shape), 0.0, 1.0),
        "brighter": np.clip(1.2 * honest, 0.0, 1.0),
        "skewed": honest[np.isin(labels, (3, 8, 9))],
        "noise": rng.random((2000, 64)),
        "inverted": 1.0 - honest,
        "blended": (honest + honest[rng.permutation(n)]) / 2.0,
    }
    return {name: log_q(images) for name, images in inputs.items()}


@pytest.fixture(scope="module")
def halves(scores):
    """Fit on the first of each, judge on the second."""
    return {name: np.array_split(values, 2) for name, values in scores.items()}


def profiles_of(halves, side):
    honest = halves["honest"][side]
    cost = RenyiTable(SIGMA, 2.0)(honest)
    shifted = [Profile(name, halves[name][side]) for name in ("blurred", "grainy", "brighter", "skewed")]
    return [*standard_profiles(honest, cost).values(), *shifted]


@pytest.fixture(scope="module")
def policy(halves):
    """The whole fit, at 4 ms of inference and 0.4 ms of pricing per query."""
    suspects = {name: halves[name][0] for name in ("noise", "inverted", "blended")}
    honest = halves["honest"][0]
    edges, values = log_ratios(honest, list(suspects.values()))
    pricing = Pricing(
        sigma=SIGMA,
        beta=BETA,
        llr_edges=edges,
        llr_values=values,
        inference_seconds=0.004,
        estimator_seconds=0.0004,
    )
    profiles = profiles_of(halves, 0)
    fitted, fit = fit_accounts(
        fit_unit(Policy(pricing=pricing), honest), profiles, suspects, queries=1_000_000, margins=(0.1, 0.3)
    )
    assert min(fit.intervals.values()) >= 100_000.0
    table = overheads(fitted, profiles, accounts=32)
    hashes = fit_hashes_per_unit(fitted, table, limit=1.9)
    return fitted.model_copy(
        update={"pricing": fitted.pricing.model_copy(update={"hashes_per_unit": hashes})}
    )


@pytest.fixture(scope="module")
def table(policy, halves):
    return overheads(policy, profiles_of(halves, 1), accounts=32, rng=1)


@pytest.fixture(scope="module")
def thefts(policy, halves):
    pools = {name: halves[name][1] for name in ("noise", "inverted", "blended")}
    return attack_costs(policy, pools, halves["honest"][1], accounts=32, rng=2)


@pytest.mark.parametrize("beta", [1.0, BETA])
@pytest.mark.parametrize(("pool", "least"), [("noise", 3.0), ("inverted", 2.5), ("blended", 2.0)])
def test_u2_the_stateless_price_alone(scores, pool, least, beta):
    policy = fit_unit(Policy(pricing=Pricing(sigma=SIGMA, beta=beta)), scores["honest"])
    honest, attack = (item_units(policy, scores[name]).mean() for name in ("honest", pool))
    assert honest == pytest.approx(1.0, rel=1e-3)
    assert attack >= least
    assert attack <= likelihood_bound(scores["honest"], scores[pool])


def test_u1_honest_profiles_pay_at_most_twice_and_a_half_and_all_but_samples_noise_twice(table):
    assert len(table) >= 9
    for row in table.values():
        assert row.queries == 10_000
        assert row.overhead <= 2.5, row
    shifted = ("cost -10%", "cost +10%", "easy only", "bursty", "blurred", "grainy", "brighter", "skewed")
    assert sum(table[name].overhead <= 2.0 for name in shifted) >= 5
    assert max(row.overhead for row in table.values()) <= 2.15


def test_u1_alarms_of_honest_users_are_rare_and_cheap(table):
    assert np.mean([row.alarms for row in table.values()]) <= 0.15
    assert table["average"].worst <= 2.0


def test_u2_one_account_pays_fifty_times_after_a_hundred_queries(thefts):
    assert thefts["noise"].after_100 >= 50.0
    assert thefts["noise"].single >= 50.0
    assert thefts["noise"].detected < 100


def test_u2_no_split_and_no_padding_goes_below_three_times(thefts):
    for name, least in (("noise", 3.0), ("inverted", 3.0), ("blended", 2.5)):
        cost = thefts[name]
        assert cost.best.ratio >= least, cost
        assert cost.split.ratio >= cost.stateless
        assert cost.best.ratio <= min(cost.split.ratio, cost.padded.ratio)


def test_thefts_of_honest_looking_inputs_cannot_be_priced_away(policy, halves):
    cost = attack_cost(policy, "in distribution", halves["honest"][1], halves["honest"][1], queries=2000)
    assert cost.stateless == pytest.approx(1.0)
    assert cost.best.ratio < 1.5


def test_cheap_halves_of_attack_pools_show_what_price_aware_thieves_save(thefts):
    for cost in thefts.values():
        assert cost.cheap_half < cost.stateless


def test_an_estimator_slower_than_the_model_leaves_no_room_for_a_price(policy, table):
    slow = policy.model_copy(
        update={"pricing": policy.pricing.model_copy(update={"estimator_seconds": 0.005})}
    )
    with pytest.raises(InvalidInput, match="faster estimator"):
        fit_hashes_per_unit(slow, table)


def test_a_theft_needs_queries(policy):
    with pytest.raises(InvalidInput, match="fewer than 200"):
        attack_cost(policy, "noise", [-1.0], [-1.0], queries=10)
