from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from assay.adapters import CallableModel, open_model
from assay.adapters.sklearn_model import SklearnModel
from assay.data import Dataset
from assay.defences import Incomplete
from assay.errors import AccessDenied, BudgetExceeded, InvalidInput
from assay.extraction import ExtractionRecord
from assay.extraction.exact import Domain, ExactWorth, Oracle, Recovered
from assay.extraction.exact.equation_solving import EquationSolving
from assay.ledger import Ledger
from assay.model import Access

sys.path.append(str(Path(__file__).parents[1] / "adapters"))  # the server of the adapters' tests

X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def iris():
    return LogisticRegression(max_iter=500).fit(X / 4 - 1, Y)


class Counted:
    """Two classes by the first feature, and a count of what reached it."""

    def __init__(self):
        self.asked = []

    def __call__(self, x):
        self.asked += x.tolist()
        p = 0.5 + 0.25 * x[:, 0]
        return np.stack([1 - p, p], 1)

    def model(self):
        return CallableModel(self, (2,), 2, access=Access.SCORES, outputs="probabilities")


def test_case_22_every_row_counts_once_and_rounds_are_calls():
    victim = Counted()
    oracle = Oracle(Ledger(victim.model(), Access.SCORES, budget=7))
    x = np.random.default_rng(0).uniform(-1, 1, (4, 2))
    scores = oracle.scores(x)
    oracle.labels(x[:2])
    assert (oracle.queries, oracle.rounds, oracle.remaining, len(victim.asked)) == (6, 2, 1, 6)
    assert scores.dtype == np.float64
    assert np.array_equal(victim.asked[:4], x)  # every bit of float64 arrives
    assert np.array_equal(scores[:, 1], 0.5 + 0.25 * x[:, 0])
    assert oracle.covers(1)
    assert not oracle.covers(2)
    with pytest.raises(BudgetExceeded):
        oracle.scores(x[:2])
    assert len(victim.asked) == 6


def test_case_22_a_memory_answers_what_was_asked():
    victim = Counted()
    oracle = Oracle(Ledger(victim.model(), Access.SCORES), cache=True)
    x = np.array([[0.5, 0.0], [0.25, 1.0], [0.5, 0.0]])
    first = oracle.scores(x)
    assert oracle.queries == 2
    assert np.array_equal(first, oracle.scores(x))
    assert np.array_equal(first[::-1], oracle.scores(x[::-1]))
    assert (oracle.queries, oracle.rounds) == (2, 1)
    oracle.labels(x)  # another kind of question
    assert oracle.queries == 4
    assert oracle.scores(np.empty((0, 2))).shape == (0, 2)
    assert oracle.renewed(cache=False).scores(x[:1]).shape == (1, 2)
    assert oracle.queries == 5


def test_case_22_an_oracle_gives_what_was_granted_and_nothing_else(iris):
    oracle = Oracle(Ledger(SklearnModel(iris), Access.LABELS))
    with pytest.raises(AccessDenied):
        oracle.scores(X[:2])
    for secret in ("module", "estimator", "coef_", "digest"):
        assert not hasattr(oracle, secret)
    with pytest.raises(InvalidInput, match=r"\[n, 4\]"):
        oracle.labels(X[:2, :3])
    with pytest.raises(InvalidInput, match="has 3 features"):
        Oracle(Ledger(SklearnModel(iris), Access.LABELS), Domain.box(3))


def test_missing_features_pass_only_where_they_are_taken(iris):
    hole = np.array([[np.nan, 0.0, 0.0, 0.0]])
    with pytest.raises(InvalidInput, match="NaN"):
        Oracle(Ledger(SklearnModel(iris), Access.SCORES)).scores(hole)
    oracle = Oracle(Ledger(Incomplete().wear(SklearnModel(iris)), Access.SCORES), cache=True)
    assert oracle.accepts_missing
    assert np.array_equal(oracle.scores(hole), oracle.scores(hole))
    assert oracle.queries == 1


def test_saturation_shows_as_infinity(iris):
    model = CallableModel(lambda x: np.tile([1.0, 0.0, 0.0], (len(x), 1)), (1,), outputs="probabilities")
    ratios = Oracle(Ledger(model, Access.SCORES)).log_ratios(np.zeros((1, 1)))
    assert ratios.tolist() == [[-np.inf, -np.inf]]
    assert Oracle(Ledger(SklearnModel(iris), Access.SCORES)).log_ratios(X[:5], 2).shape == (5, 2)


def test_domains_know_their_limits():
    domain = Domain.parse("-1,3;4;0,10", 3)
    assert domain.continuous.tolist() == [True, False, True]
    assert domain.centre.tolist() == [1.0, 1.0, 5.0]
    drawn = domain.uniform(400, np.random.default_rng(0))
    assert domain.contains(drawn).all()
    assert sorted(set(drawn[:, 1])) == [0.0, 1.0, 2.0, 3.0]
    assert domain.clip(np.array([[9.0, 9.0, np.nan]]))[0, :2].tolist() == [3.0, 3.0]
    assert not domain.contains(np.array([[0.0, 0.5, 0.0]]))[0]
    assert domain.contains(np.array([[0.0, np.nan, 0.0]]))[0]
    assert Domain.of(2, (0.0, np.inf)).low.tolist() == [-1.0, -1.0]
    assert Domain.of(2, (0.0, 5.0)).high.tolist() == [5.0, 5.0]
    for wrong in ("1", "1,2;3,4", "a,b", "2,1", "0,inf"):
        with pytest.raises(InvalidInput):
            Domain.parse(wrong, 3)
    with pytest.raises(InvalidInput, match="categorical"):
        Domain(np.zeros(1), np.ones(1), (3,))


def test_a_journal_resumes_an_exact_attack_for_nothing(iris, tmp_path):
    first = EquationSolving().run(SklearnModel(iris), journal=tmp_path / "j")
    again = EquationSolving().run(SklearnModel(iris), journal=tmp_path / "j")
    assert (first.record.cost.replayed, again.record.cost.replayed) == (0, 7)
    assert again.record.cost.round_trips == 0
    assert first.surrogate.digest == again.surrogate.digest


def test_results_are_saved_and_open_again(iris, tmp_path):
    data = Dataset.from_arrays(X / 4 - 1, Y, value_range=(-1.0, 1.0))
    done = EquationSolving().run(SklearnModel(iris), evaluation=data, price=0.5, truth=iris, uniform=100)
    folder = done.save(tmp_path / "theft")
    assert ExtractionRecord.load(folder / "extraction.json") == done.record
    copy = open_model(folder / "surrogate.skops")
    assert torch.equal(copy.labels(data.x), SklearnModel(iris).labels(data.x))
    from safetensors.numpy import load_file

    assert load_file(folder / "parameters.safetensors")["coef"].shape == (3, 4)
    record = done.record
    assert record.cost.dollars == 3.5
    assert (record.fidelity.value, record.exact.r_test.value) == (1.0, 0.0)
    assert record.exact.r_test.method == "clopper-pearson"
    assert record.exact.exact
    assert [p.queries for p in record.curve] == [7]
    assert ExtractionRecord.from_dict({**record.to_dict(), "exact": None}).exact is None


def test_float64_survives_a_server(iris):
    from oip_server import OipServer, tensor

    def answer(x):
        assert x.dtype == np.float64
        return [tensor(iris.predict_proba(x), "FP64")]

    outputs = [{"name": "y", "datatype": "FP64", "shape": [-1, 3]}]
    with OipServer(answer, (4,), outputs, datatype="FP64") as server:
        victim = open_model(server.url, outputs="probabilities")
        done = EquationSolving().run(victim, truth=iris)
        victim.close()
    assert done.worth.parameter_error < 1e-11
    assert done.worth.r_unif is None  # nobody asked for measuring rows


def test_what_does_not_fit_is_refused(iris):
    victim, narrow = SklearnModel(iris), Dataset(torch.zeros(3, 2), torch.tensor([0, 1, 2]), ("a", "b", "c"))
    with pytest.raises(InvalidInput, match="inputs of shape"):
        EquationSolving().run(victim, narrow)
    with pytest.raises(InvalidInput, match="no curve"):
        EquationSolving().run(victim, curve=(1, 2))
    fits = Dataset(torch.zeros(3, 4), torch.tensor([0, 1, 2]), ("a", "b", "c"))
    with pytest.raises(InvalidInput, match="leave it out"):
        EquationSolving().run(victim, fits.subset([]))
    with pytest.raises(InvalidInput, match="has 3 classes, the victim has 4"):
        Recovered(iris, "x", 1, 1).opened((4,), 4)


def test_worth_is_exact_only_if_nothing_differs_and_nothing_is_flagged():
    from assay.statistics import clopper_pearson

    good, bad = clopper_pearson(0, 100), clopper_pearson(1, 100)
    assert ExactWorth("m", 3, 3, 1.0, r_unif=good).exact
    assert not ExactWorth("m", 3, 3, 1.0, r_unif=bad).exact
    assert not ExactWorth("m", 3, 3, 1.0).exact
    assert not ExactWorth("m", 3, 3, 1.0, r_unif=good, flags=("rounded",)).exact
