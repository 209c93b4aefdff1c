from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from assay.adapters import TorchModel, restrict
from assay.adapters.sklearn_model import SklearnModel
from assay.defences import HiddenFeatures, LeafIdentity, Rounding, TopOne
from assay.errors import AccessDenied, InvalidInput
from assay.extraction.exact import Domain, Oracle
from assay.extraction.exact.auto import Auto, candidates
from assay.extraction.exact.linear_models import as_one_vs_rest, as_softmax
from assay.extraction.exact.probe import probe
from assay.ledger import Ledger
from assay.model import Access

W = np.random.default_rng(0).normal(0, 1, (4, 9))
LINEAR = SklearnModel(as_softmax(W[:, :-1], W[:, -1]))


def seen(model, domain=None, grant=None):
    ledger = Ledger(model, model.access if grant is None else grant)
    oracle = Oracle(ledger, domain)
    findings = probe(oracle, 6, np.random.default_rng(0))
    return findings, [c.name for c in candidates(findings, oracle)]


def test_a_linear_model_is_seen_for_what_it_is():
    findings, names = seen(LINEAR)
    assert (findings.linear, findings.constant, findings.kinked) == (True, False, False)
    assert findings.words == "all scores, in float64, linear in their logarithms"
    assert names[0] == "equation-solving"


def test_rounded_and_hidden_scores_are_seen():
    findings, names = seen(Rounding(digits=3).wear(LINEAR))
    assert findings.words == "all scores, in 3 decimals"
    assert names[0] == "equation-solving"
    findings, names = seen(TopOne().wear(LINEAR))
    assert findings.hidden
    assert names[0] == "equation-solving"


def test_leaves_bins_values_and_labels_are_seen():
    x, y = load_iris(return_X_y=True)
    x = (x - x.min(0)) / (x.max(0) - x.min(0))
    box = Domain.box(4, 0.0, 1.0)
    tree = SklearnModel(DecisionTreeClassifier(random_state=0).fit(x, y))
    findings, names = seen(tree, box)
    assert findings.constant
    assert names[0] == "path-finding"
    assert seen(LeafIdentity().wear(tree), box)[1][0] == "path-finding"
    grown = DecisionTreeRegressor(max_depth=3, random_state=0).fit(x[:, :3], x[:, 3])
    assert seen(LeafIdentity().serve(grown), Domain.box(3, 0.0, 1.0))[1] == ["path-finding"]
    hidden = HiddenFeatures(edges=((-0.25, 0.5), (0.1,)), categories=(0, 0))
    inner = SklearnModel(as_softmax(np.array([[0.0] * 5, [0.5, -1.0, 2.0, 0.3, 1.0]]), np.zeros(2)))
    assert seen(hidden.wear(inner))[1][0] == "bin-search"
    assert seen(restrict(LINEAR, "labels"))[1][0] == "boundary"


@pytest.mark.parametrize(("unit", "name"), [(torch.nn.ReLU, "relu"), (torch.nn.Tanh, "algebraic-mlp")])
def test_kinks_and_bends_are_told_apart(unit, name):
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), unit(), torch.nn.Linear(6, 3)).double()
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for weights in net.parameters():
            weights.copy_(torch.from_numpy(rng.normal(0, 1, tuple(weights.shape))))
    findings, names = seen(TorchModel(net, (8,), 3), grant=Access.SCORES)
    assert name in names
    assert findings.kinked == (unit is torch.nn.ReLU)


def test_the_copy_comes_with_the_reason():
    done = Auto().run(LINEAR, uniform=1000)
    details = done.worth.details
    assert details["attack"] == "equation-solving"
    assert "equations" in details["why"]
    assert list(details["attempts"]) == ["equation-solving"]
    assert details["probes"] + 11 == done.record.cost.queries
    assert done.worth.flags == ()
    assert done.worth.r_unif.value == 0.0


def test_one_vs_rest_and_bins_are_recovered():
    w = np.random.default_rng(3).normal(0, 0.5, (4, 6))
    truth = as_one_vs_rest(w[:, :-1], w[:, -1])
    done = Auto().run(SklearnModel(truth), truth=truth, uniform=1000)
    assert done.worth.parameter_error < 1e-8
    hidden = HiddenFeatures(edges=((-0.25, 0.5), ()), categories=(0, 2))
    inner = SklearnModel(as_softmax(np.array([[0.0] * 5, [0.5, -1.0, 2.0, 0.0, 1.0]]), np.zeros(2)))
    domain = Domain(np.array([-1.0, 0.0]), np.ones(2), (0, 2))
    done = Auto().run(hidden.wear(inner), domain=domain, uniform=1000)
    assert done.worth.details["attack"] == "bin-search"
    assert done.worth.r_unif.value == 0.0


def test_nothing_to_ask_and_no_budget_are_refused():
    with pytest.raises(InvalidInput, match="at least 2"):
        Auto(places=1)
    silent = SklearnModel(as_softmax(W[:, :-1], W[:, -1]))
    silent.access = Access.NONE
    with pytest.raises(AccessDenied, match="neither labels nor scores"):
        Auto().run(silent)
