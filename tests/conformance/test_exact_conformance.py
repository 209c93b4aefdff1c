from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

from assay.adapters import TorchModel
from assay.adapters.sklearn_model import SklearnModel
from assay.defences import HiddenFeatures, LeafIdentity
from assay.extraction.exact import Domain, ExactAttack, Recovered
from assay.extraction.exact.linear_models import as_softmax
from assay.model import Access
from assay.registry import create, registered
from assay.testing import check_exact

EXACT = [e for e in registered("extraction") if issubclass(e.target, ExactAttack)]


def softmax():
    rng = np.random.default_rng(0)
    return SklearnModel(as_softmax(rng.normal(0, 1, (3, 4)), rng.normal(0, 0.2, 3)))


def binary():
    return SklearnModel(as_softmax(np.array([[0.0] * 4, [1.0, -0.5, 2.0, 0.3]]), np.array([0.0, -0.2])))


def binned():
    weights = np.array([[0.0] * 5, [0.5, -1.0, 2.0, 0.0, 1.0]])
    hidden = HiddenFeatures(edges=((-0.25, 0.5), ()), categories=(0, 2))
    return hidden.wear(SklearnModel(as_softmax(weights, np.zeros(2))))


def tree():
    x, y = load_iris(return_X_y=True)
    x = (x - x.min(0)) / (x.max(0) - x.min(0))
    fitted = DecisionTreeClassifier(max_depth=3, random_state=0).fit(x, y)
    return LeafIdentity(confidence="node").wear(SklearnModel(fitted))


def network(activation, hidden=3, size=5, classes=3):
    net = torch.nn.Sequential(
        torch.nn.Linear(size, hidden), activation(), torch.nn.Linear(hidden, classes)
    ).double()
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for weights in net.parameters():
            weights.copy_(torch.from_numpy(rng.normal(0, 1, tuple(weights.shape))))
    return TorchModel(net, (size,), classes)


SMOOTH, KINKED = (lambda: network(torch.nn.Tanh)), (lambda: network(torch.nn.ReLU))
VICTIMS = {
    "bin-search": (binned, {}, Domain(np.array([-1.0, 0.0]), np.ones(2), (0, 2))),
    "path-finding": (tree, {}, Domain.box(4, 0.0, 1.0)),
    "algebraic-mlp": (SMOOTH, {"hidden": 3}, None),
    "mlp-equations": (SMOOTH, {"hidden": 3, "starts": 2, "iterations": 50}, None),
    "relu": (KINKED, {}, None),
    "kernel-leakage": (softmax, {"queries": 60, "representers": 3, "starts": 1, "iterations": 20}, None),
    "inversion": (softmax, {"steps": 20}, None),
    "lowd-meek": (binary, {}, None),
    "lm-head": (lambda: network(torch.nn.Identity, 2, 6, 12), {"prompts": 24}, None),
}


@pytest.mark.parametrize("entry", EXACT, ids=lambda entry: entry.name)
def test_every_exact_attack_keeps_the_contract(entry):
    victim, options, domain = VICTIMS.get(entry.name, (softmax, {}, None))
    check_exact(create(entry.name, "extraction", options), victim(), domain=domain)


@dataclass(frozen=True)
class Honest(ExactAttack):
    """The smallest attack that keeps the contract."""

    name: ClassVar[str] = "honest"
    needs: ClassVar[Access] = Access.LABELS

    def look(self, oracle, rng):
        return oracle.labels(oracle.domain.uniform(9, rng))

    def recover(self, oracle, *, rng, observers=()):
        guess = np.eye(oracle.num_classes)[np.bincount(self.look(oracle, rng)).argmax()]
        zeros = np.zeros((oracle.num_classes, oracle.size))
        return Recovered(as_softmax(zeros, guess), "constant", 1, 1, {"guess": guess})


def test_the_honest_attack_passes():
    check_exact(Honest(), softmax())


class PeeksAtTheEstimator(Honest):
    def look(self, oracle, rng):
        _ = oracle._ledger._model._estimator
        return super().look(oracle, rng)


class ReachesAround(Honest):
    def look(self, oracle, rng):
        return oracle._ledger._model.labels(torch.zeros(9, oracle.size)).numpy()


class TakesScores(Honest):
    def look(self, oracle, rng):
        oracle.labels(oracle.domain.uniform(9, rng))
        oracle._ledger._queries += 9
        return oracle._ledger._model.scores(torch.zeros(9, oracle.size)).numpy().argmax(1)


class DrawsAnew(Honest):
    def look(self, oracle, rng):
        return super().look(oracle, np.random.default_rng())


class Seeds(Honest):
    def look(self, oracle, rng):
        np.random.seed(0)  # noqa: NPY002 - the offence
        return super().look(oracle, rng)


class RaisesItsBudget(Honest):
    def look(self, oracle, rng):
        oracle._ledger.budget = None
        return super().look(oracle, rng)


class AsksNothing(Honest):
    def look(self, oracle, rng):
        return np.zeros(3, dtype=np.int64)


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (PeeksAtTheEstimator, "reached for '_estimator'"),
        (ReachesAround, "counted 0 of 9 answered rows"),
        (TakesScores, "declares labels but used scores"),
        (DrawsAnew, "asked 9 rows again"),
        (Seeds, "global random state"),
        (RaisesItsBudget, "spent 9 queries of a budget of 0"),
        (AsksNothing, "made a copy without asking anything"),
    ],
)
def test_every_cheat_of_an_exact_attack_is_caught(attack, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_exact(attack(), softmax())
