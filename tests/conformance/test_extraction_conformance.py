import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from assay.extraction import Attack, LabelQuery
from assay.extraction.base import Extraction
from assay.extraction.exact.base import ExactAttack
from assay.model import Access
from assay.nets import build, train
from assay.registry import create, registered
from assay.testing import SpyModel, check_extraction


def _fast(entry):
    numbers = {"epochs": 1, "batch_size": 40}
    return create(entry.name, "extraction", {k: v for k, v in numbers.items() if k in entry.parameters})


# Attacks that recover parameters need victims of their own class: test_exact_conformance.py.
TRAINED = [e for e in registered("extraction") if not issubclass(e.target, ExactAttack)]


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: entry.name)
def test_every_registered_attack_keeps_the_contract(entry):
    check_extraction(_fast(entry), rows=60)


@dataclass(frozen=True)
class Honest(Attack):
    """The smallest attack that keeps the contract."""

    name: ClassVar[str] = "honest"
    needs: ClassVar[Access] = Access.LABELS

    def ask(self, oracle, x):
        return oracle.labels(x)

    def steal(self, oracle, pool, *, rng, observers=(), checkpoint=None):
        network = build("mlp-8", pool.input_shape, pool.num_classes, rng)
        recipe = LabelQuery(epochs=3).recipe
        train(network, pool, recipe, targets=self.ask(oracle, pool.x), rng=rng)
        return network


def test_the_honest_attack_passes():
    check_extraction(Honest(), rows=30)


class ReachesAround(Honest):
    def ask(self, oracle, x):
        return oracle._model.labels(x)


class AsksALittleMore(Honest):
    def ask(self, oracle, x):
        oracle._model._module.body(x[:1])
        return oracle.labels(x)


class TakesScores(Honest):
    def ask(self, oracle, x):
        return oracle._model.scores(x).argmax(1)


class TakesScoresAndPays(Honest):
    def ask(self, oracle, x):
        oracle.labels(x)
        oracle._queries += len(x)
        return oracle._model.scores(x).argmax(1)


class TakesTheModule(Honest):
    def ask(self, oracle, x):
        _ = oracle._model.module
        return oracle.labels(x)


class RaisesItsBudget(Honest):
    def ask(self, oracle, x):
        oracle.budget = None
        return oracle.labels(x)


class RunsOnItsOwn(Honest):
    def run(self, victim, pool, **options):
        found = super().run(victim, pool, **options)
        victim.labels(pool.x)
        return found


class WritesIntoThePool(Honest):
    def ask(self, oracle, x):
        labels = oracle.labels(x)
        x[0] += 0.5
        return labels


class SeedsEverything(Honest):
    def ask(self, oracle, x):
        torch.manual_seed(0)
        return oracle.labels(x)


class DrawsFromNumpy(Honest):
    def ask(self, oracle, x):
        np.random.rand()  # noqa: NPY002 - the offence
        return oracle.labels(x)


class Whimsical(Honest):
    seen: ClassVar[list[int]] = []

    def ask(self, oracle, x):
        self.seen.append(1)
        return (oracle.labels(x) + len(self.seen)) % 10


class AsksEverythingAgain(Honest):
    seen: ClassVar[list[int]] = []

    def ask(self, oracle, x):
        self.seen.append(1)
        return oracle.labels((x - 0.001 * len(self.seen)).clip(0, 1))


class TakesAnyVictim(Honest):
    def run(self, victim, pool, **options):
        victim.access = Access.WEIGHTS
        return super().run(victim, pool, **options)


class TakesAnyShape(Honest):
    def run(self, victim, pool, **options):
        pool = dataclasses.replace(pool, x=torch.zeros(len(pool), *victim.input_shape))
        return super().run(victim, pool, **options)


class ForgetsTheCount(Honest):
    def run(self, victim, pool, **options):
        found = super().run(victim, pool, **options)
        return Extraction(found.surrogate, dataclasses.replace(found.record, attack="other"))


class TrainsTheVictim(Honest):
    needs: ClassVar[Access] = Access.WEIGHTS

    def ask(self, oracle, x):
        labels = oracle.labels(x)
        with torch.no_grad():
            oracle._model.module.head.bias += 0.1
        return labels


class LeavesTrainingMode(Honest):
    needs: ClassVar[Access] = Access.WEIGHTS

    def ask(self, oracle, x):
        oracle.module.train()
        return oracle.labels(x)


class LeavesGradients(Honest):
    needs: ClassVar[Access] = Access.WEIGHTS

    def ask(self, oracle, x):
        oracle.module(x).sum().backward()
        return oracle.labels(x)


@dataclass(frozen=True)
class Undocumented(Honest):
    """An attack that explains nothing."""

    temperature: float = 1.0


class Mutable(Attack):
    name, needs = "mutable", Access.LABELS
    steal = Honest.steal


class Nameless(Honest):
    name = None


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (ReachesAround, "went around the ledger, which counted 0 of 30 answered rows"),
        (AsksALittleMore, "went around the ledger, which counted 30 of 31"),
        (TakesScores, "went around the ledger"),
        (TakesScoresAndPays, "declares labels but used scores"),
        (TakesTheModule, "declares labels but used weights"),
        (RaisesItsBudget, "spent 30 queries of a budget of 10"),
        (RunsOnItsOwn, "went around the ledger"),
        (WritesIntoThePool, "modified the pool"),
        (SeedsEverything, "global random state"),
        (DrawsFromNumpy, "global random state"),
        (Whimsical, "two different copies with the same seed"),
        (AsksEverythingAgain, "asked 30 rows again|two different copies"),
        (TakesAnyVictim, "offers only none, must raise AccessDenied"),
        (TakesAnyShape, "narrow digits, must raise InvalidInput"),
        (ForgetsTheCount, "record of honest names other"),
        (TrainsTheVictim, "changed the victim: weight head.bias"),
        (LeavesTrainingMode, "changed the victim: training flag"),
        (LeavesGradients, "changed the victim: gradient"),
        (Undocumented, "temperature of honest is not documented"),
        (Mutable, "must be a frozen dataclass"),
        (Nameless, "must state its name"),
    ],
)
def test_every_cheat_is_caught(attack, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_extraction(attack(), rows=30)


def test_the_spy_counts_every_way_in_once_and_no_copies():
    spy = SpyModel(build("cnn-4", (1, 8, 8), 3).eval(), (1, 8, 8), 3)
    x = torch.rand(5, 1, 8, 8)
    spy.labels(x)
    spy.scores(x)
    spy.embeddings(x)
    assert (spy.rows, Access.WEIGHTS in spy.used) == (15, False)
    with torch.no_grad():
        spy.module(x)
        spy.module.head(spy.module.embed(x))
    assert spy.rows == 15 + 5 + 5 * 3  # one forward; normalise, body and head by hand
    import copy

    copy.deepcopy(spy.module)(x)
    assert spy.rows == 35
    with pytest.raises(RuntimeError):
        spy.module(torch.rand(2, 7, 8, 8))
    spy.labels(x)
    assert spy.rows == 42  # a failed call leaves the count in order
    assert spy.changes() == []
