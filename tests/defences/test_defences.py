from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from assay.adapters import CallableModel, TorchModel, restrict
from assay.adapters.sklearn_model import SklearnModel
from assay.defences import (
    Ensemble,
    HiddenFeatures,
    Incomplete,
    LeafIdentity,
    LogitBias,
    Noise,
    Rounding,
    TopK,
    TopOne,
)
from assay.errors import AccessDenied, InvalidInput, UnknownName
from assay.ledger import Ledger, Recorded
from assay.model import Access
from assay.registry import create, registered

X, Y = load_iris(return_X_y=True)
ROWS = torch.from_numpy(X[::7])


@pytest.fixture(scope="module")
def victim():
    return SklearnModel(LogisticRegression(max_iter=300).fit(X, Y), name="iris")


@pytest.fixture(scope="module")
def tree():
    return DecisionTreeClassifier(random_state=0).fit(X, Y)


@pytest.mark.parametrize("digits", [0, 2, 5])
def test_rounded_scores_have_so_many_decimals_and_the_true_label(victim, digits):
    dressed = Rounding(digits=digits).wear(victim)
    scores = dressed.scores(ROWS).numpy()
    assert np.array_equal(scores, np.round(victim.scores(ROWS).numpy(), digits))
    assert torch.equal(dressed.labels(ROWS), victim.labels(ROWS))
    whole = Rounding(digits=digits, renormalise=True).wear(victim).scores(ROWS)
    assert torch.allclose(whole.sum(1), torch.ones(len(ROWS), dtype=torch.float64))


def test_rounding_everything_away_leaves_even_scores():
    many = CallableModel(lambda x: np.full((len(x), 40), 1 / 40), (1,), outputs="probabilities")
    even = Rounding(digits=1, renormalise=True).wear(many).scores(torch.zeros(2, 1))
    assert torch.allclose(even, torch.full((2, 40), 1 / 40, dtype=torch.float64))


def test_only_the_largest_scores_are_shown(victim):
    true = victim.scores(ROWS).numpy()
    for dressed, k in ((TopOne().wear(victim), 1), (TopK(k=2).wear(victim), 2), (TopK(k=9).wear(victim), 3)):
        shown = dressed.scores(ROWS).numpy()
        assert ((shown > 0).sum(1) == k).all()
        assert np.array_equal(shown[shown > 0], true[shown > 0])
        assert np.array_equal(shown.argmax(1), true.argmax(1))
        assert dressed.complete_scores == (k == 3)


def test_noise_is_the_inputs_own_and_of_the_stated_size(victim):
    for kind in ("gaussian", "laplace"):
        noisy = Noise(scale=0.01, kind=kind, seed=5).wear(victim)
        first = noisy.scores(ROWS)
        assert torch.equal(first, noisy.scores(ROWS.flip(0)).flip(0))
        assert torch.equal(first, noisy.scores(ROWS + 0.0))
        assert not torch.equal(first, Noise(scale=0.01, kind=kind, seed=6).wear(victim).scores(ROWS))
        inner = (victim.scores(ROWS) > 0.1).all(1)  # clipping at 0 shrinks the rest
        gap = (first - victim.scores(ROWS))[inner] if inner.any() else first - victim.scores(ROWS)
        assert 0.002 < float(gap.std()) < 0.02
        assert torch.allclose(first.sum(1), torch.ones(len(ROWS), dtype=torch.float64))
    assert torch.allclose(Noise(scale=0.0).wear(victim).scores(ROWS), victim.scores(ROWS))


def test_an_ensemble_is_the_mean_or_the_vote(victim, tmp_path):
    other = SklearnModel(LogisticRegression(C=0.01, max_iter=300).fit(X, Y))
    mean = Ensemble().join(victim, other).scores(ROWS)
    assert torch.allclose(mean, (victim.scores(ROWS) + other.scores(ROWS)) / 2)
    votes = Ensemble(vote="majority").join(victim, other, victim).scores(ROWS)
    assert set(np.round(votes.numpy() * 3).ravel()) <= {0.0, 1.0, 2.0, 3.0}
    with pytest.raises(InvalidInput, match="further members"):
        Ensemble().wear(victim)
    narrow = CallableModel(lambda x: x, (2,), outputs="probabilities")
    with pytest.raises(InvalidInput, match="other inputs or classes"):
        Ensemble().join(victim, narrow)


def test_missing_features_are_filled_and_only_where_allowed(victim):
    holes = ROWS.clone()
    holes[:, 2] = torch.nan
    filled = ROWS.clone()
    filled[:, 2] = 3.0
    assert torch.equal(Incomplete(fill=3.0).wear(victim).scores(holes), victim.scores(filled))
    with pytest.raises(InvalidInput, match="NaN"):
        Rounding().wear(victim).scores(holes)
    meter = Ledger(Incomplete().wear(victim), Access.SCORES)
    assert meter.scores(holes).shape == (len(ROWS), 3)
    with pytest.raises(InvalidInput, match="infinity"):
        meter.scores(torch.full((1, 4), torch.inf))


def test_leaves_are_told_apart_by_the_confidence_of_their_node(tree):
    model = SklearnModel(tree)
    for how in ("wilson", "purity", "node"):
        service = LeafIdentity(confidence=how).wear(model)
        assert torch.equal(service.labels(ROWS), model.labels(ROWS))
        assert np.array_equal(service.nodes(ROWS), tree.apply(ROWS.numpy()))
        shown = service.scores(ROWS)
        assert ((shown > 0).sum(1) == 1).all()
        distinct = len(torch.unique(service.scores(torch.from_numpy(X)), dim=0))
        assert distinct == {"purity": 3, "node": service.leaves}.get(how, distinct)
    assert 3 < len(torch.unique(LeafIdentity().wear(model).scores(torch.from_numpy(X)), dim=0)) <= 9


def test_an_incomplete_query_ends_at_the_node_that_asks_for_what_is_missing(tree):
    service = LeafIdentity(confidence="node").wear(SklearnModel(tree))
    nothing = torch.full((1, 4), torch.nan, dtype=torch.float64)
    assert service.nodes(nothing).tolist() == [0]
    answer = service.embeddings(nothing)[0]
    assert answer[2:].nonzero().ravel().tolist() == [int(tree.tree_.feature[0])]
    strict = LeafIdentity(incomplete=False).wear(SklearnModel(tree))
    with pytest.raises(InvalidInput, match="NaN"):
        strict.scores(nothing)


def test_a_regression_tree_shows_values_only():
    fitted = DecisionTreeRegressor(max_depth=4, random_state=0).fit(X[:, :3], X[:, 3])
    service = LeafIdentity().serve(fitted)
    rows = ROWS[:, :3]
    assert service.access == Access.EMBEDDINGS
    assert np.allclose(service.embeddings(rows)[:, 0], fitted.predict(rows.numpy()), atol=1e-5)
    with pytest.raises(AccessDenied):
        service.scores(rows)
    with pytest.raises(InvalidInput, match="not one decision tree"):
        LeafIdentity().wear(SklearnModel(LogisticRegression(max_iter=300).fit(X, Y)))


def test_hidden_features_are_dummies_of_bins_and_categories():
    raw = np.column_stack([np.linspace(0, 1, 101), np.arange(101) % 4])
    service = HiddenFeatures.quantiles(raw, (0, 4), bins=5)
    dummies = service.encode(raw)
    assert service.sizes == (5, 4)
    assert np.allclose(dummies[:, :5].sum(0) / 101, 0.2, atol=0.01)
    assert (dummies.sum(1) == 2).all()
    assert service.encode(np.array([[0.2, 9.0]])).tolist() == [[1.0, 0, 0, 0, 0, 0, 0, 0, 0]]
    inner = SklearnModel(LogisticRegression().fit(dummies, raw[:, 0] > 0.5))
    dressed = service.wear(inner)
    rows = torch.from_numpy(raw)
    assert torch.allclose(dressed.scores(rows), inner.scores(torch.from_numpy(dummies)), rtol=1e-14)
    assert dressed.input_shape == (2,)
    for wrong in (
        {},
        {"edges": ((1.0, 0.5),), "categories": (0,)},
        {"edges": ((), ()), "categories": (1, 2)},
    ):
        with pytest.raises(InvalidInput):
            HiddenFeatures(**wrong)
    with pytest.raises(InvalidInput, match="takes inputs"):
        service.wear(SklearnModel(LogisticRegression().fit(raw, raw[:, 0] > 0.5)))


def test_a_logit_bias_moves_tokens_into_sight():
    z = np.random.default_rng(0).normal(0, 1, (4, 30))
    model = CallableModel(lambda x: x @ z, (4,), outputs="logits")
    service = LogitBias(k=3, slots=2).wear(model)
    prompt = np.array([0.3, -1.0, 2.0, 0.5])
    plain = np.concatenate([prompt, [-1, -1, 0, 0]])
    biased = np.concatenate([prompt, [7, 11, 50, 49]])
    answers = service.embeddings(torch.from_numpy(np.stack([plain, biased]))).numpy()
    logits = prompt @ z
    assert answers[0, :3].tolist() == np.argsort(-logits)[:3].tolist()
    assert answers[1, :2].tolist() == [7, 11] if logits[7] + 1 > logits[11] else [11, 7]
    tokens, logs = answers[1, :3].astype(int), answers[1, 3:]
    bias = {7: 50.0, 11: 49.0}
    recovered = logs - logs[2] - np.array([bias.get(t, 0.0) for t in tokens])
    assert np.allclose(recovered, logits[tokens] - logits[tokens[2]], atol=1e-6)
    shown = service.scores(torch.from_numpy(biased[None]))
    assert int((shown > 0).sum()) == 3
    with pytest.raises(InvalidInput, match="whole number"):
        service.scores(torch.from_numpy(np.concatenate([prompt, [30, -1, 0, 0]])[None]))
    with pytest.raises(InvalidInput, match="fewer than k"):
        LogitBias(k=31).wear(model)


def test_a_dressed_model_hides_the_model_and_names_its_dress(victim):
    dressed = Rounding(digits=2).wear(victim)
    assert dressed.name == "iris behind rounding"
    assert dressed.digest not in (victim.digest, Rounding(digits=3).wear(victim).digest)
    assert dressed.digest == Rounding(digits=2).wear(victim).digest
    for hidden in (lambda: dressed.module, lambda: dressed.embeddings(ROWS)):
        with pytest.raises(AccessDenied):
            hidden()
    network = TorchModel(torch.nn.Linear(4, 3), (4,), 3)
    assert Access.WEIGHTS not in TopOne().wear(network).access
    with pytest.raises(AccessDenied, match="needs scores"):
        Rounding().wear(restrict(victim, "labels"))


def test_dresses_go_over_each_other(victim):
    both = Rounding(digits=2).wear(TopOne().wear(victim))
    assert ((both.scores(ROWS) > 0).sum(1) == 1).all()
    assert not both.complete_scores


def test_partial_scores_pass_the_ledger_and_its_journal(victim, tmp_path):
    dressed = TopOne().wear(victim)
    with Ledger(dressed, Access.SCORES, journal=tmp_path / "j") as meter:
        answers = meter.scores(ROWS)
    gone = Recorded(tmp_path / "j")
    assert not gone.complete_scores
    with Ledger(gone, Access.SCORES, journal=tmp_path / "j") as meter:
        assert torch.equal(meter.scores(ROWS), answers)
    honest = CallableModel(lambda x: x, (3,), outputs="probabilities")
    honest.scores = lambda x: x  # a complete model must not get away with incomplete rows
    with pytest.raises(InvalidInput, match="not probabilities"):
        Ledger(honest, Access.SCORES).scores(torch.full((1, 3), 0.1))


def test_every_defence_is_registered_with_words():
    found = {entry.name: entry for entry in registered("defence")}
    assert set(found) >= {"rounding", "top-1", "top-k", "noise", "ensemble", "leaf-identity", "logit-bias"}
    assert all(entry.summary.endswith(".") for entry in found.values())
    assert create("rounding", "defence", {"digits": "2"}) == Rounding(digits=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rounding(digits=16),
        lambda: TopK(k=0),
        lambda: Noise(scale=-1.0),
        lambda: LeafIdentity(digits=0),
        lambda: LogitBias(k=0),
        lambda: Incomplete(fill=float("nan")),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(InvalidInput):
        make()


@pytest.mark.parametrize(
    "make", [lambda: Noise(kind="pink"), lambda: LeafIdentity(confidence="x"), lambda: Ensemble(vote="x")]
)
def test_unknown_words_are_refused(make):
    with pytest.raises(UnknownName):
        make()
