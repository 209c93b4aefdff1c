from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from assay.errors import InvalidInput
from assay.evidence.dataset_inference.scorers import (
    LinearScorer,
    NetworkScorer,
    PaperRegressor,
    RidgeLogistic,
    cross_fit,
    load_scorer,
)
from assay.statistics import welch_p_values

SCORERS = [RidgeLogistic(), PaperRegressor(steps=150)]


def shifted(n=200, shift=0.8, seed=0):
    g = torch.Generator().manual_seed(seed)
    side = torch.rand(n, generator=g) < 0.5
    features = torch.randn(n, 5, generator=g)
    features[side, 0] += shift
    return features * torch.tensor([0.01, 1, 1, 1, 100]) + 7, side


@pytest.mark.parametrize("scorer", SCORERS)
def test_private_rows_score_higher(scorer):
    features, side = shifted()
    fresh, fresh_side = shifted(seed=1)
    scores = scorer.fit(features, side, 0).score(fresh)
    assert scores.dtype == np.float64
    assert scores.shape == (200,)
    assert scores[fresh_side.numpy()].mean() > scores[~fresh_side.numpy()].mean()
    swapped = scorer.fit(features, ~side, 0).score(fresh)
    assert swapped[fresh_side.numpy()].mean() < swapped[~fresh_side.numpy()].mean()


def test_ridge_is_antisymmetric_and_its_penalty_shrinks():
    features, side = shifted()
    a, b = RidgeLogistic().fit(features, side, 0), RidgeLogistic().fit(features, ~side, 1)
    assert np.allclose(a.score(features), -b.score(features), atol=1e-3)
    harder = RidgeLogistic(penalty=100.0).fit(features, side, 0)
    assert harder.weight.norm() < a.weight.norm()
    # Stationary point of summed log loss plus half the penalty times the squared norm.
    rows = (features.double() - a.mean) / a.std
    residual = torch.sigmoid(torch.from_numpy(a.score(features))) - side.double()
    assert torch.allclose(rows.T @ residual + a.weight, torch.zeros(5, dtype=torch.float64), atol=0.05)


def test_regressor_matches_the_published_network():
    features, side = shifted(60)
    config = PaperRegressor(hidden=7, steps=5, lr=0.1, standardize=False)
    fitted = config.fit(features[:, 1:4], side, 3)
    g = torch.Generator().manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.ReLU(), torch.nn.Linear(7, 1), torch.nn.Tanh())
    for p, fan in zip(net.parameters(), (3, 3, 7, 7), strict=True):
        p.data = (torch.rand(p.shape, generator=g) * 2 - 1) / fan**0.5
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    b = torch.where(side, -1.0, 1.0)
    for _ in range(5):
        optimizer.zero_grad()
        (-(b * net(features[:, 1:4]).squeeze(1)).mean()).backward()
        optimizer.step()
    expected = -net(features[:, 1:4]).squeeze(1).detach().double().numpy()
    assert np.allclose(fitted.score(features[:, 1:4]), expected, atol=1e-5)


@pytest.mark.parametrize("scorer", SCORERS)
def test_state_round_trip_and_determinism(scorer):
    features, side = shifted(80)
    before = torch.get_rng_state()
    fitted = scorer.fit(features, side, 4)
    assert torch.equal(before, torch.get_rng_state())
    state = {k: v.clone() for k, v in fitted.state().items()}
    assert all(isinstance(v, torch.Tensor) and not v.requires_grad for v in state.values())
    again = load_scorer(state)
    assert type(again) is type(fitted)
    assert np.array_equal(again.score(features), fitted.score(features))
    assert np.array_equal(scorer.fit(features, side, 4).score(features), fitted.score(features))


def test_regressor_seed_matters():
    features, side = shifted(80)
    a, b = (PaperRegressor(steps=3).fit(features, side, seed).score(features) for seed in (0, 1))
    assert not np.allclose(a, b)


def test_standardisation_comes_from_training_rows():
    features, side = shifted(100)
    fitted = RidgeLogistic().fit(features[:50], side[:50], 0)
    assert torch.equal(fitted.mean, features[:50].double().mean(0))


def test_cross_fit_never_scores_a_row_by_itself():
    features, side = shifted(120)
    scores = cross_fit(RidgeLogistic(), features, side, folds=4, rng=0)
    assert scores[side.numpy()].mean() > scores[~side.numpy()].mean() + 0.3

    class Spy:
        def __init__(self):
            self.calls = []

        def fit(self, features, is_private, rng):
            self.calls.append((features.clone(), is_private.clone()))
            seen = features

            class Fitted:
                def score(self, rows):
                    assert not (rows[:, None] == seen[None]).all(2).any()
                    return np.zeros(len(rows))

            return Fitted()

    spy = Spy()
    cross_fit(spy, features, side, folds=4, rng=0)
    assert len(spy.calls) == 4
    assert sum(len(f) for f, _ in spy.calls) == 3 * 120
    shares = [float(s.float().mean()) for _, s in spy.calls]
    assert max(shares) - min(shares) < 0.02  # each side is spread evenly


def test_random_halves_of_one_set_are_not_told_apart():
    g = torch.Generator().manual_seed(0)
    difficulty = torch.randn(240, 1, generator=g)
    features = difficulty + 0.5 * torch.randn(240, 12, generator=g)
    p = []
    for _ in range(150):
        side = torch.randperm(240, generator=g) < 120
        fold = torch.randperm(240, generator=g) < 120
        scores = RidgeLogistic().fit(features[fold], side[fold], 0).score(features[~fold])
        held = side[~fold].numpy()
        p.append(float(welch_p_values(scores[held], scores[~held])))
    assert np.mean(np.array(p) < 0.01) <= 0.03
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_bad_input():
    features, side = shifted(20)
    for scorer in SCORERS:
        with pytest.raises(InvalidInput, match="bool tensor"):
            scorer.fit(features, side.long(), 0)
        with pytest.raises(InvalidInput, match="2 rows of each side"):
            scorer.fit(features, torch.ones(20, dtype=torch.bool), 0)
        with pytest.raises(InvalidInput, match="NaN"):
            scorer.fit(features * float("nan"), side, 0)
        with pytest.raises(InvalidInput, match="fitted on 5"):
            scorer.fit(features, side, 0).score(features[:, :2])
    with pytest.raises(InvalidInput, match="folds"):
        cross_fit(RidgeLogistic(), features, side, folds=1, rng=0)
    with pytest.raises(InvalidInput, match="penalty"):
        RidgeLogistic(penalty=0.0)
    with pytest.raises(InvalidInput, match="positive"):
        PaperRegressor(steps=0)


def test_damaged_states():
    features, side = shifted(20)
    state = RidgeLogistic().fit(features, side, 0).state()
    with pytest.raises(InvalidInput, match="no scorer"):
        load_scorer({})
    with pytest.raises(InvalidInput, match="no scorer"):
        load_scorer({**state, "more": state["bias"]})
    with pytest.raises(InvalidInput, match="not finite"):
        load_scorer({**state, "bias": state["bias"] * float("nan")})
    with pytest.raises(InvalidInput, match="do not fit"):
        load_scorer({**state, "weight": state["weight"][:2]})
    assert isinstance(load_scorer(state), LinearScorer)
    assert not isinstance(load_scorer(state), NetworkScorer)
