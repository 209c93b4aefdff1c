from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from assay.adapters import CallableModel
from assay.adapters.sklearn_model import SklearnModel
from assay.defences import Defence, Dressed
from assay.extraction.exact.linear_models import as_softmax
from assay.model import Access
from assay.registry import create, registered
from assay.testing import check_defence

X, Y = load_iris(return_X_y=True)
SECRET = "0123456789abcdef" * 4


def softmax(size):
    rng = np.random.default_rng(1)
    return SklearnModel(as_softmax(rng.normal(0, 1, (3, size)), np.zeros(3)))


def coded():
    """Rows of a number and a category of two."""
    return torch.tensor([[0.25, 0.0], [-0.5, 1.0], [0.75, 1.0]], dtype=torch.float64)


def asked():
    """Prompts of six numbers with one biased token."""
    prompts = np.random.default_rng(2).normal(size=(5, 6))
    return torch.from_numpy(np.column_stack([prompts, np.full(5, 3.0), np.full(5, 2.0)]))


# Settings, model, rows and ways to put on, of those that have no defaults to be built with.
SPECIAL = {
    "categories": lambda: ({"categories": (0, 2)}, {"model": softmax(3), "rows": coded()}),
    "hidden-features": lambda: (
        {"edges": ((-0.25, 0.5), ()), "categories": (0, 2)},
        {"model": softmax(5), "rows": coded()},
    ),
    "leaf-identity": lambda: (
        {},
        {"model": SklearnModel(DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, Y))},
    ),
    "ensemble": lambda: ({}, {"wear": lambda how, model: how.join(model, softmax(4))}),
    "logit-bias": lambda: (
        {"k": 2, "slots": 1},
        {"model": CallableModel(lambda x: x, (6,), outputs="logits"), "rows": asked()},
    ),
    "coverage-noise": lambda: ({"key": SECRET}, {"stateful": True}),
}


@pytest.mark.parametrize("name", [entry.name for entry in registered("defence")])
def test_every_defence_keeps_the_contract(name):
    entry = next(entry for entry in registered("defence") if entry.name == name)
    options, how = SPECIAL.get(name, lambda: ({}, {}))()
    if "key" in entry.parameters:
        options = {"key": SECRET, **options}
    check_defence(create(name, "defence", options), **how)


@dataclass(frozen=True, kw_only=True)
class Sloppy(Defence):
    """Add something to scores.

    Parameters
    ----------
    size
        How much.
    """

    name: ClassVar[str] = "sloppy"
    fault: ClassVar[str] = ""

    size: float = 0.0

    def wear(self, model):
        return _Sloppy(model, self)


class _Sloppy(Dressed):
    def __init__(self, model, how):
        access = Access.WEIGHTS if how.fault == "weights" else None
        super().__init__(model, how, access=access, complete=how.fault != "partial")
        self._how, self._asked = how, 0
        if how.fault == "digest":
            self.digest = model.digest
        if how.fault == "settings":
            self.digest = "the same for all"
        if how.fault == "public":
            self.secret = model

    def _scores(self, x):
        scores = self._plain(x).copy()
        if self._how.fault == "drifting":
            self._asked += 1
            scores = np.roll(scores, self._asked, axis=1)
        if self._how.fault == "random":
            scores[:] = np.random.dirichlet(np.ones(3), len(scores))  # noqa: NPY002 - the fault itself
        return scores * 0.5 if self._how.fault == "half" else scores

    def _labels(self, x):
        labels = super()._labels(x)
        return 2 - labels if self._how.fault == "labels" else labels

    def _check(self, x, needs, what):
        if self._how.fault != "unchecked":
            super()._check(x, needs, what)


FAULTS = {
    "weights": "offers the weights",
    "digest": "the digest of the bare one",
    "settings": "does not tell values of size apart",
    "public": "public attribute",
    "drifting": "differently",
    "random": "differently",
    "half": "do not sum to 1",
    "labels": "not those of its largest scores",
    "unchecked": "must",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_notices(fault):
    kind = type("Faulty", (Sloppy,), {"fault": fault, "__doc__": Sloppy.__doc__})
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_defence(kind())


def test_a_defence_without_fault_passes_and_forms_are_checked():
    check_defence(Sloppy(), model=SklearnModel(LogisticRegression(max_iter=500).fit(X, Y)))

    undocumented = dataclass(frozen=True, kw_only=True)(
        type("Undocumented", (Sloppy,), {"__annotations__": {"other": int}, "other": 1, "__doc__": "Short."})
    )
    with pytest.raises(AssertionError, match="other of sloppy is not documented"):
        check_defence(undocumented())
