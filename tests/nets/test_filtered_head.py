import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from torch import nn

from assay.adapters import TorchModel, open_model, save_model
from assay.errors import InvalidInput
from assay.nets import build
from assay.nets.filtered_head import FilteredHead, guard
from assay.nets.outlier_scores import Forest, LocalOutliers


def _features(rows, width=6, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def _questions():
    return torch.cat([_features(50, seed=1), 4 * _features(20, seed=2)])


def test_the_local_outlier_factor_is_scikit_learns():
    usual = _features(120)
    usual[5] = usual[6]  # duplicates have no distance
    score = LocalOutliers(6, 120)
    score.fit(usual, 0)
    expected = (
        -LocalOutlierFactor(n_neighbors=20, novelty=True)
        .fit(usual.numpy())
        .score_samples(_questions().numpy())
    )
    assert np.abs(score(_questions()).numpy() / expected - 1).max() < 1e-4


@pytest.mark.parametrize("rows", [2, 40, 256, 400])
def test_the_forest_is_scikit_learns(rows):
    usual = _features(rows)
    score = Forest(6, 25)
    score.fit(usual, 3)
    grown = IsolationForest(n_estimators=25, max_samples=min(256, rows), random_state=3).fit(usual.numpy())
    expected = -grown.score_samples(_questions().numpy())
    assert np.abs(score(_questions()).numpy() - expected).max() < 1e-5


def test_rows_that_are_all_the_same_break_nothing():
    for score in (Forest(3, 5), LocalOutliers(3, 10)):
        score.fit(torch.ones(10, 3), 0)
        assert bool(torch.isfinite(score(torch.ones(2, 3))).all())
        assert bool(torch.isfinite(score(torch.zeros(2, 3))).all())


@pytest.mark.parametrize("kind", [Forest, LocalOutliers])
@pytest.mark.parametrize("evasion", ["random", "second"])
def test_outliers_are_evaded_and_others_are_not(kind, evasion):
    head = nn.Linear(6, 10)
    score = kind(6, 100)
    score.fit(_features(200), 0)
    guarded = FilteredHead(head, score, evasion)
    x = _questions()
    outlying = score(x) > 1.5 * score(x)[:50].median()
    assert 5 < int(outlying.sum()) < 40
    assert torch.equal(guarded(x), head(x))  # before a threshold is set
    guarded.threshold.fill_(float(1.5 * score(x)[:50].median()))
    state = torch.get_rng_state()
    answered, plain = guarded(x), head(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(answered[~outlying], plain[~outlying])
    # The same logits in other places: confidence gives nothing away.
    assert torch.equal(answered.sort(1).values, plain.sort(1).values)
    if evasion == "second":
        assert torch.equal(answered[outlying].argmax(1), plain[outlying].topk(2).indices[:, 1])
    else:
        assert float((answered[outlying].argmax(1) == plain[outlying].argmax(1)).double().mean()) < 0.5
        assert torch.equal(guarded(x[60:]), answered[60:])


@pytest.mark.parametrize("name", ["lof-30", "forest-7"])
@pytest.mark.parametrize("evasion", ["random", "second"])
def test_a_guarded_network_is_saved_and_opens_again(name, evasion, tmp_path):
    network = build("mlp-8", (4,), 5, 1).eval()
    kind, size = (LocalOutliers, 30) if name == "lof-30" else (Forest, 7)
    score = kind(8, size)
    x = _features(60, 4)
    score.fit(network.embed(x).detach(), 0)
    head = FilteredHead(network.head, score, evasion)
    guard(network, head)
    head.threshold.fill_(float(score(network.embed(x)).detach().median()))
    assert network.architecture == f"{name}+mlp-8"
    model = TorchModel(network)
    opened = open_model(save_model(model, tmp_path / "net.safetensors"))
    assert opened.digest == model.digest
    assert torch.equal(opened.scores(x), model.scores(x))
    assert not torch.equal(opened.scores(x), TorchModel(build("mlp-8", (4,), 5, 1)).scores(x))


def test_a_forged_file_breaks_nothing(tmp_path):
    network = build("forest-3+mlp-8", (4,), 5, 1).eval()
    network.head.score.feature.fill_(10**9)
    network.head.score.cut.fill_(0.0)
    network.head.code.fill_(7)
    network.head.threshold.fill_(0.0)
    opened = open_model(save_model(TorchModel(network), tmp_path / "net.safetensors"))
    assert opened.scores(_features(3, 4)).shape == (3, 5)


def test_bad_choices_are_refused():
    with pytest.raises(InvalidInput, match="evades"):
        FilteredHead(nn.Linear(3, 2), Forest(3, 2), "shout")
    with pytest.raises(InvalidInput, match="at least 2 references"):
        LocalOutliers(3, 1)
    with pytest.raises(InvalidInput, match="as many rows"):
        LocalOutliers(3, 9).fit(torch.zeros(8, 3), 0)
    with pytest.raises(InvalidInput, match="at least 2 rows"):
        Forest(3, 9).fit(torch.zeros(1, 3), 0)
