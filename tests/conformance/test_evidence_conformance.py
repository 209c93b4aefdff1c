"""Every registered scheme keeps the evidence contract, and the suite notices those that do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.adapters import TorchModel
from assay.data import commit_split
from assay.data.embedded import digits
from assay.errors import InvalidInput
from assay.evidence import Evidence
from assay.evidence.dataset_inference import DatasetInference
from assay.evidence.watermarks import (
    Adi,
    BadNets,
    Content,
    Frontier,
    GradientMatching,
    Margin,
    Noise,
    Radioactive,
    TriggerSet,
    Unrelated,
)
from assay.nets import Recipe, build, train
from assay.registry import registered
from assay.testing import check_evidence

torch.set_num_threads(1)


@cache
def data():
    whole = digits()
    return whole.subset(np.random.default_rng(0).permutation(len(whole)))


@cache
def independent():
    models = []
    for seed in range(3):
        network = build("mlp-32", (1, 8, 8), 10, seed)
        train(network, data(), Recipe(epochs=3, optimizer="adam", lr=0.01), rng=seed)
        models.append(TorchModel(network, name=f"independent {seed}"))
    return tuple(models)


@cache
def trigger_set(trigger="patch"):
    """Return scheme, evidence, independent models and a guilty one."""
    scheme = TriggerSet(trigger=trigger, triggers=60)
    recipe = Recipe(epochs=10, optimizer="adam", lr=5e-3, weight_decay=0.0)
    made = scheme.embed(data(), architecture="mlp-64", recipe=recipe, key=1)
    return scheme, made.evidence, independent(), made.model


@cache
def added_rows(scheme):
    """Return scheme, evidence, independent models and a guilty one."""
    recipe = Recipe(epochs=10, optimizer="adam", lr=5e-3, weight_decay=0.0)
    made = scheme.embed(data(), architecture="mlp-64", recipe=recipe, key=1)
    return scheme, made.evidence, independent(), made.model


@cache
def dataset_inference():
    """Return scheme, evidence, independent models and a guilty one."""
    split = commit_split(data().subset(range(600)), rng=1)
    recipe = Recipe(epochs=30, optimizer="adam", lr=3e-3, weight_decay=0.0, batch_size=32)
    network = build("mlp-64", (1, 8, 8), 10)
    train(network, split.private, recipe)
    victim = TorchModel(network)
    scheme = DatasetInference(keep=100, references=8, recipe=recipe)
    evidence = scheme.register(victim, split.private, split.control, rng=2)
    others = []
    for seed in range(2):
        other = build("mlp-32", (1, 8, 8), 10, seed)
        train(other, data().subset(range(600, 1200)), recipe, rng=seed)
        others.append(TorchModel(other, name=f"independent {seed}"))
    return scheme, evidence, others, victim


CASES = {
    "dataset-inference": dataset_inference,
    "adi": lambda: added_rows(Adi(triggers=32)),
    "badnets": lambda: added_rows(BadNets(triggers=32)),
    "content": lambda: added_rows(Content(triggers=32)),
    "frontier": lambda: added_rows(Frontier(marks=60)),
    "gradient-matching": lambda: (
        *added_rows(GradientMatching(marks=8, iterations=5))[:3],
        None,
    ),  # too weak here
    "margin": lambda: added_rows(Margin(marks=40)),
    "noise": lambda: added_rows(Noise(triggers=32)),
    "radioactive": lambda: added_rows(Radioactive(reach=0.2)),
    "unrelated": lambda: added_rows(Unrelated(triggers=32)),
    "trigger-set": trigger_set,
    "trigger-set, out of distribution": lambda: trigger_set("out-of-distribution"),
}


def test_every_scheme_of_ours_has_a_case():
    """Here, or in a file of its own that makes what a case of it needs."""
    files = (Path(__file__).parents[1] / "evidence").glob("test_*.py")
    own = [text for text in (file.read_text() for file in files) if "check_evidence(" in text]
    for entry in registered("evidence"):
        if entry.target.__module__.startswith("assay."):
            here = entry.name in {name.split(",")[0] for name in CASES}
            assert here or any(f"{entry.target.__name__}(" in text for text in own), entry.name


@pytest.mark.parametrize("name", CASES)
def test_contract(name):
    scheme, evidence, models, guilty = CASES[name]()
    assert check_evidence(scheme, evidence, models, guilty).n["p_values"] >= 100


# --- schemes that break the contract must be caught ------------------------------------


@dataclass(frozen=True)
class Peeking(TriggerSet):
    """Looks at more rows than it admits."""

    def examine(self, evidence, oracle, **options):
        oracle._model.labels(evidence.tensors["triggers"])
        return super().examine(evidence, oracle, **options)


@dataclass(frozen=True)
class Greedy(TriggerSet):
    """Takes scores, though it declares labels."""

    def examine(self, evidence, oracle, **options):
        found = super().examine(evidence, oracle, **options)
        oracle._model.scores(evidence.tensors["triggers"][:0])
        return found


@dataclass(frozen=True)
class Eager(TriggerSet):
    """Squares its p-values."""

    def examine(self, evidence, oracle, **options):
        found = super().examine(evidence, oracle, **options)
        return replace(found, result=replace(found.result, p_value=found.result.p_value**2))


@dataclass(frozen=True)
class Fickle(TriggerSet):
    """Gives another p-value each time, by the global random state."""

    def examine(self, evidence, oracle, **options):
        found = super().examine(evidence, oracle, **options)
        return replace(found, result=replace(found.result, p_value=float(torch.rand(()).clamp_min(1e-6))))


@dataclass(frozen=True)
class Lazy(TriggerSet):
    """Offers its own secret as decoy."""

    def decoys(self, evidence, count, rng):
        return iter([evidence] * count)


@dataclass(frozen=True)
class Tireless(TriggerSet):
    """Says something on a budget of nothing."""

    def examine(self, evidence, oracle, **options):
        if oracle.remaining == 0:
            return replace(super().examine(evidence, type(oracle)(oracle._model, oracle.access), **options))
        return super().examine(evidence, oracle, **options)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Peeking, "some bypassed it"),
        (Greedy, r"was granted labels, but used \['scores'\]"),
        (Eager, "are too small"),
        (Fickle, "same seed gives two different verdicts"),
        (Lazy, "distinct ones were given"),
        (Tireless, "budget of 0"),
    ],
)
def test_broken_schemes_are_caught(broken, sentence):
    _, evidence, models, guilty = trigger_set()
    # One look, so that p-values are uniform: looking early makes them larger, and squares hard to see.
    scheme = broken(triggers=60, stop_early=False)
    changed = Evidence(scheme, evidence.tensors, evidence.facts, evidence.nonce)
    # Not registered under a name of their own: a bundle of theirs would load as the honest scheme.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.testing.evidence._check_bundle", lambda *_: None)
        with pytest.raises(AssertionError, match=sentence):
            check_evidence(scheme, changed, models, guilty)


class Careless(Evidence):
    """Commits to its facts only, so that other triggers pass."""

    def save(self, path):
        folder = super().save(path)
        (folder / "notes.json").write_text("{}")
        return folder


def test_uncommitted_files_are_caught():
    scheme, evidence, models, guilty = trigger_set()
    careless = Careless(scheme, evidence.tensors, evidence.facts, evidence.nonce)
    with pytest.raises(AssertionError, match=r"bundle without notes\.json was accepted"):
        check_evidence(scheme, careless, models, guilty)


def test_an_innocent_model_is_not_accepted_as_guilty():
    scheme, evidence, models, _ = trigger_set()
    with pytest.raises(AssertionError, match="guilty model is not called stolen"):
        check_evidence(scheme, evidence, models, models[0])


def test_other_parameters_than_the_evidence_are_caught():
    _, evidence, models, guilty = trigger_set()
    with pytest.raises(AssertionError, match="does not carry the scheme"):
        check_evidence(TriggerSet(triggers=61), evidence, models, guilty)


def test_no_models():
    scheme, evidence, _, _ = trigger_set()
    with pytest.raises(InvalidInput, match="at least one"):
        check_evidence(scheme, evidence, [])
