"""One hidden layer: the algebra, the search, ReLU kinks, and what they refuse."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import nn

from assay.adapters import CallableModel, SklearnModel, TorchModel
from assay.adapters.sklearn_model import load_skops
from assay.errors import InvalidInput
from assay.extraction.exact.algebraic_mlp import AlgebraicMLP
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.mlp_equations import MLPEquations
from assay.extraction.exact.relu import ReLU
from assay.extraction.exact.shallow import ShallowNet


def random_net(h, d, c, seed, activation="tanh", scale=1.0):
    rng = np.random.default_rng(seed)
    W, b = scale * rng.normal(size=(h, d)), 0.3 * rng.normal(size=h)
    return ShallowNet(W, b, rng.normal(size=(c - 1, h)), rng.normal(size=c - 1), activation)


def as_model(net, size=None):
    return TorchModel(net.module(), (size or net.W.shape[1],), len(net.V) + 1)


def trained(x, y, max_iter):
    """Return the network of the acceptance cases and the rows it never saw."""
    low, high = x.min(0), x.max(0)
    x = 2 * (x - low) / np.where(high > low, high - low, 1) - 1
    order = np.random.default_rng(0).permutation(len(x))
    cut = int(0.7 * len(x))
    net = MLPClassifier((20,), activation="tanh", max_iter=max_iter, random_state=0)
    return net.fit(x[order[:cut]], y[order[:cut]]), x[order[cut:]]


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    with pytest.warns(ConvergenceWarning):
        return trained(data.data, data.target, 300)


@pytest.fixture(scope="module")
def adult():
    path = Path(os.environ.get("ASSAY_DATA", "missing")) / "tabular" / "aws_adult.csv.gz"
    if not path.exists():
        pytest.skip("needs ASSAY_DATA with tabular/aws_adult.csv.gz")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    head, *rows = ([cell.strip() for cell in line.split(",")] for line in lines if line.strip())
    columns, target = [], None
    for j, name in enumerate(head):
        values = np.array([row[j] for row in rows])
        if name.lower() == "race":
            target = np.unique(values, return_inverse=True)[1]
            continue
        try:
            columns.append(values.astype(float)[:, None])
        except ValueError:
            kinds, code = np.unique(values, return_inverse=True)
            columns.append(np.eye(len(kinds))[code])
    with pytest.warns(ConvergenceWarning):
        return trained(np.hstack(columns), target, 60)


def check_exact(stolen, *, test, victim, queries):
    worth = stolen.worth
    assert stolen.record.cost.queries <= queries
    assert worth.r_unif.value == 0.0
    assert worth.tv_unif_max < 1e-8
    assert worth.parameter_error < 1e-7
    assert not worth.flags
    assert (stolen.found.model.predict(test) == victim.predict(test)).all()


@pytest.mark.parametrize("hidden", [20, None])
def test_algebra_recovers_a_digits_network_from_a_third_of_its_weights_in_queries(digits, hidden):
    victim, test = digits
    stolen = AlgebraicMLP(hidden=hidden).run(SklearnModel(victim), truth=victim, uniform=10_000)
    check_exact(stolen, test=test, victim=victim, queries=300)
    assert stolen.worth.details["hidden"] == 20
    assert stolen.worth.bound == 166


@pytest.mark.parametrize("hidden", [20, None])
def test_algebra_recovers_a_census_network_near_the_bound(adult, hidden):
    victim, test = adult
    stolen = AlgebraicMLP(hidden=hidden).run(SklearnModel(victim), truth=victim, uniform=10_000)
    check_exact(stolen, test=test, victim=victim, queries=700)
    assert stolen.worth.bound == 551


def test_algebra_survives_float32_answers(digits):
    victim, _ = digits
    rounded = CallableModel(
        lambda x: victim.predict_proba(np.asarray(x, float)).astype(np.float32),
        (64,),
        outputs="probabilities",
        num_classes=10,
    )
    stolen = AlgebraicMLP(hidden=20, starts=0).run(rounded, truth=victim, uniform=10_000)
    assert stolen.record.cost.queries <= 600
    assert stolen.worth.r_unif.value == 0.0
    assert stolen.worth.tv_unif_max < 1e-4


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_two_classes_have_a_single_log_ratio_and_need_hessians(activation):
    net = random_net(4, 9, 2, 0, activation)
    stolen = AlgebraicMLP(activation=activation).run(as_model(net), truth=net, uniform=1000)
    assert stolen.worth.details["hidden"] == 4
    assert stolen.worth.parameter_error < 1e-6
    assert stolen.worth.r_unif.value == 0.0


def test_the_victims_own_scale_does_not_matter():
    net = random_net(3, 6, 4, 1, scale=0.02)
    low, high = np.full(6, -10.0), np.full(6, 110.0)
    stolen = AlgebraicMLP().run(as_model(net), truth=net, domain=Domain(low, high))
    assert stolen.worth.parameter_error < 1e-6


def test_a_wrong_width_is_not_called_exact():
    net = random_net(6, 8, 3, 2)
    stolen = AlgebraicMLP(hidden=3, starts=0).run(as_model(net), truth=net, uniform=500)
    assert "not verified" in stolen.worth.flags
    assert not stolen.worth.exact


def test_more_units_than_inputs_go_to_the_search():
    net = random_net(4, 2, 4, 3)
    stolen = AlgebraicMLP(hidden=4, starts=8).run(as_model(net), truth=net, uniform=500)
    assert "searched" in stolen.worth.flags
    assert stolen.worth.tv_unif_max < 1e-6
    with pytest.raises(InvalidInput, match="more directions than inputs"):
        AlgebraicMLP(hidden=4, starts=0).run(as_model(net))


def test_a_constant_network_is_said_to_be_one():
    net = ShallowNet(np.zeros((2, 5)), np.zeros(2), np.ones((2, 2)), np.array([0.5, -1.0]), "tanh")
    stolen = AlgebraicMLP().run(as_model(net), uniform=200)
    assert stolen.worth.flags == ("constant",)
    assert stolen.worth.tv_unif_max < 1e-12


def test_budgets_below_the_bound_are_refused_before_anything_is_asked(digits):
    victim, _ = digits
    asked = []

    def answer(x):
        asked.append(len(x))
        return victim.predict_proba(np.asarray(x, float))

    model = CallableModel(answer, (64,), outputs="probabilities", num_classes=10)
    before = len(asked)
    with pytest.raises(InvalidInput, match="166 for any"):
        AlgebraicMLP(hidden=20).run(model, budget=100)
    with pytest.raises(InvalidInput, match="at least 166"):
        MLPEquations(hidden=20).run(model, budget=100)
    with pytest.raises(InvalidInput, match="single unit"):
        ReLU().run(model, budget=100)
    assert len(asked) == before


def test_probabilities_of_zero_are_named():
    hard = CallableModel(lambda x: np.eye(3)[(np.asarray(x)[:, 0] > 0).astype(int)], (4,), num_classes=3)
    with pytest.raises(InvalidInput, match="probabilities of 0"):
        AlgebraicMLP(hidden=2).run(hard)


def test_categories_are_refused():
    net = random_net(2, 3, 3, 0)
    domain = Domain(np.zeros(3), np.array([1.0, 2.0, 1.0]), (0, 3, 0))
    with pytest.raises(InvalidInput, match="categorical"):
        AlgebraicMLP(hidden=2).run(as_model(net), domain=domain)


def test_the_same_seed_asks_the_same_and_a_journal_answers_again(tmp_path):
    net = random_net(2, 4, 3, 5)
    runs = [AlgebraicMLP().run(as_model(net), rng=7, journal=tmp_path / "j.jsonl") for _ in range(2)]
    assert runs[0].surrogate.digest == runs[1].surrogate.digest
    assert runs[1].record.cost.replayed == runs[1].record.cost.queries > 0


def test_the_copy_is_a_scikit_learn_network_that_opens_from_its_file(tmp_path):
    pytest.importorskip("skops")
    net = random_net(2, 4, 3, 6)
    stolen = AlgebraicMLP().run(as_model(net))
    stolen.save(tmp_path)
    trust = ["scipy.sparse._csr.csr_matrix"]
    opened = load_skops(tmp_path / "surrogate.skops", trust=trust)
    x = torch.rand(5, 4, dtype=torch.float64)
    assert torch.allclose(opened.scores(x), as_model(net).scores(x), atol=1e-9)


def test_random_equations_solve_the_digits_network_with_as_many_queries_as_weights(digits):
    victim, test = digits
    stolen = MLPEquations(hidden=20).run(SklearnModel(victim), truth=victim, uniform=10_000)
    assert stolen.record.cost.round_trips == 1
    check_exact(stolen, test=test, victim=victim, queries=1510)
    assert stolen.worth.tv_unif_max < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_random_equations_solve_the_census_network(adult, factor):
    victim, test = adult
    stolen = MLPEquations(hidden=20, factor=factor).run(SklearnModel(victim), truth=victim, uniform=10_000)
    check_exact(stolen, test=test, victim=victim, queries=int(2225 * factor))


def test_unsolved_equations_are_flagged():
    net = random_net(6, 5, 3, 0, scale=2.0)
    stolen = MLPEquations(hidden=2, factor=3, starts=1, iterations=50).run(as_model(net), truth=net)
    assert "not solved" in stolen.worth.flags


def relu_net(h, d, c, seed):
    rng = np.random.default_rng(seed)
    V, e = rng.normal(size=(c, h)) / np.sqrt(h), rng.normal(size=c) / np.sqrt(h)
    W, b = rng.normal(size=(h, d)) / np.sqrt(d), rng.normal(size=h) / np.sqrt(d)
    return ShallowNet(W, b, V[1:] - V[0], e[1:] - e[0], "relu")


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(s, marks=pytest.mark.slow) for s in range(2, 10))])
def test_relu_network_is_exact(seed):
    net = relu_net(32, 64, 5, seed)
    stolen = ReLU().run(as_model(net), truth=net.module(), uniform=10_000, rng=seed)
    worth = stolen.worth
    assert stolen.record.cost.queries <= 2_000 < 4 * 32 * (2 * 64 + 40)
    assert worth.details["hidden"] == 32
    assert worth.parameter_error < 1e-8
    assert worth.r_unif.value == 0.0
    assert worth.tv_unif_max < 1e-9
    assert not worth.flags


def test_relu_of_two_classes():
    net = relu_net(6, 10, 2, 0)
    stolen = ReLU().run(as_model(net), truth=net, uniform=1000)
    assert stolen.worth.details["hidden"] == 6
    assert stolen.worth.parameter_error < 1e-8


def test_relu_refuses_float32_and_finds_no_kinks_in_a_linear_model():
    net = relu_net(4, 6, 3, 0)
    with pytest.raises(InvalidInput, match="float32"):
        ReLU().run(TorchModel(net.module().float(), (6,), 3))
    linear = nn.Linear(6, 3).double()
    stolen = ReLU().run(TorchModel(linear, (6,), 3), uniform=500)
    assert stolen.worth.tv_unif_max < 1e-9


def test_shallow_nets_compare_up_to_their_symmetries():
    for activation in ("tanh", "logistic", "relu"):
        net = random_net(3, 4, 3, 0, activation)
        order, sign = (
            [2, 0, 1],
            np.array([1.0, -1.0, -1.0]) if activation != "relu" else np.array([2.0, 3, 0.5]),
        )
        shift = net.V[:, sign < 0].sum(1) if activation == "logistic" else 0.0
        V = net.V / sign if activation == "relu" else net.V * sign
        W, b = (sign[:, None] * net.W)[order], (sign * net.b)[order]
        other = ShallowNet(W, b, V[:, order], net.e + shift, activation)
        x = np.random.default_rng(1).normal(size=(20, 4))
        assert np.allclose(net.probabilities(x), other.probabilities(x))
        assert net.distance(other) < 1e-12
        moved = ShallowNet(other.W + 0.01, other.b, other.V, other.e, activation)
        assert net.distance(moved) > 1e-3
        assert np.allclose(net.estimator().predict_proba(x), net.probabilities(x))
        assert np.allclose(ShallowNet.of(net.module()).log_ratios(x), net.log_ratios(x))
    with pytest.raises(InvalidInput, match="no fitted network"):
        ShallowNet.of(object())
